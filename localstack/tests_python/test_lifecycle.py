"""How LocalStack starts and ends, and that nothing of it stays behind."""

import os
import signal
import subprocess
import sys
import unittest

import psutil
from lab import DEADLINE_SECONDS, Function, Server, alive, eventually, folder


class Ending(unittest.TestCase):
    def setUp(self) -> None:
        self.server = Server(folder()).wait_until_ready()
        self.addCleanup(self.server.stop)
        function = Function(self.server.account())
        self.pid = function.invoke()[0]["pid"]
        self.child = function.invoke(do="child")[0]

    def assert_nothing_is_left(self) -> None:
        eventually("LocalStack has ended", lambda: self.server.process.poll() is not None)
        for pid in (self.pid, self.child):
            eventually("the bootstrap is dead", lambda pid=pid: not alive(pid))

    def test_the_end_of_standard_input_ends_everything(self) -> None:
        self.server.process.stdin.close()
        self.assert_nothing_is_left()
        self.assertEqual(self.server.process.returncode, 0)
        self.assertEqual(self.server.notes(), [])

    def test_a_polite_signal_ends_everything(self) -> None:
        self.server.process.send_signal(signal.SIGTERM)
        self.assert_nothing_is_left()
        self.assertEqual(self.server.process.returncode, 0)

    def test_when_localstack_is_killed_its_bootstraps_die(self) -> None:
        self.server.process.kill()
        self.assert_nothing_is_left()


class Parent(unittest.TestCase):
    def test_when_the_process_that_started_it_is_killed_everything_ends(self) -> None:
        data = folder()
        # A parent that holds the other end of standard input and does nothing else.
        program = (
            "import sys; sys.path.insert(0, sys.argv[1])\n"
            "from pathlib import Path; import lab, signal\n"
            "server = lab.Server(Path(sys.argv[2])).wait_until_ready()\n"
            "pid = lab.Function(server.account()).invoke()[0]['pid']\n"
            "print(server.process.pid, pid, flush=True)\n"
            "signal.pause()\n"
        )
        here = os.path.dirname(__file__)
        parent = subprocess.Popen([sys.executable, "-c", program, here, str(data)], stdout=subprocess.PIPE, text=True)
        self.addCleanup(parent.stdout.close)
        pids = [int(word) for word in parent.stdout.readline().split()]
        self.assertEqual([alive(pid) for pid in pids], [True, True])
        parent.kill()
        parent.wait(DEADLINE_SECONDS)
        for pid in pids:
            eventually("everything is dead", lambda pid=pid: not alive(pid))


class Starting(unittest.TestCase):
    def test_two_instances_side_by_side_know_nothing_of_each_other(self) -> None:
        servers = [Server(folder()), Server(folder())]
        for each in servers:
            self.addCleanup(each.stop)
            each.wait_until_ready()
        for each in servers:
            account = each.account()
            account.account = "000000000001"
            function = Function(account)
            answer = function.invoke()[0]
            self.assertEqual(answer["environment"]["AWS_ENDPOINT_URL"], each.endpoint)
            self.assertTrue(answer["folder"].startswith(str(each.data)), answer["folder"])
        first, second = servers
        first.stop()
        self.assertEqual(len(second.notes()), 1)
        self.assertTrue(alive(second.notes()[0]["pid"]))

    def test_a_busy_port_is_one_clear_line(self) -> None:
        running = Server(folder()).wait_until_ready()
        self.addCleanup(running.stop)
        late = Server(folder(), port=running.port)
        self.addCleanup(late.stop)
        self.assertEqual(late.process.wait(DEADLINE_SECONDS), 1)
        said = late.log.read_text().splitlines()
        self.assertEqual(len(said), 1)
        self.assertIn(f"port {running.port} on 127.0.0.1 is in use", said[0])

    def test_only_the_loopback_interface_listens(self) -> None:
        running = Server(folder()).wait_until_ready()
        self.addCleanup(running.stop)
        function = Function(running.account())
        function.invoke()
        listening = [c.laddr for c in psutil.Process(running.process.pid).net_connections() if c.status == "LISTEN"]
        self.assertIn(running.port, [address.port for address in listening])
        self.assertEqual({address.ip for address in listening}, {"127.0.0.1"})

    def test_what_an_earlier_run_left_behind_is_cleared(self) -> None:
        data = folder()
        stale = data / "bootstraps" / "000000000001" / "old" / "1.json"
        stale.parent.mkdir(parents=True)
        stale.write_text("{}")
        running = Server(data).wait_until_ready()
        self.addCleanup(running.stop)
        self.assertEqual(running.notes(), [])


if __name__ == "__main__":
    unittest.main()
