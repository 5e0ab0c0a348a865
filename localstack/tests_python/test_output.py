"""What a process prints is taken by the invocation that it was printed in."""

import os
import unittest

from lab import eventually
from switchyard_localstack.output import Output


class Taking(unittest.TestCase):
    def setUp(self) -> None:
        reading, self.writing = os.pipe()
        self.output = Output(reading)

    def test_everything_written_before_is_taken_and_nothing_twice(self) -> None:
        for number in range(1_000):
            os.write(self.writing, b"line %d\n" % number)
            self.assertEqual(self.output.take(), f"line {number}\n")
        os.close(self.writing)

    def test_what_was_written_before_the_end_is_there_after_it(self) -> None:
        os.write(self.writing, b"last words")
        os.close(self.writing)
        self.assertEqual(self.output.take(), "last words")
        self.assertEqual(self.output.take(), "")

    def test_a_writer_without_a_reader_is_never_blocked_and_the_newest_is_kept(self) -> None:
        # More than a pipe holds, and more than is kept.
        piece = b"x" * 65_536
        for _ in range(100):
            os.write(self.writing, piece)
        os.write(self.writing, b"the end")
        os.close(self.writing)
        text = eventually("it was read", self.output.take)
        self.assertTrue(text.endswith("the end"), text[-20:])
        self.assertLessEqual(len(text), 4 * 1024 * 1024)


if __name__ == "__main__":
    unittest.main()
