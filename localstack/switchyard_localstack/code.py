"""How a function's code gets onto the disk: unpacked once, however many accounts deploy it.

LocalStack downloads and unpacks the archive for each function of each account. The programs of a stack are hundreds of megabytes, and
the end-to-end tests deploy the same ones dozens of times.
"""

import os
import shutil
import tempfile
import threading
from pathlib import Path

from localstack.services.lambda_.invocation.lambda_models import S3Code


def install() -> None:
    """To be called before the first function is made."""
    lock = threading.Lock()
    unpack = S3Code.prepare_for_execution

    def prepare_for_execution(self: S3Code) -> None:
        code = self.get_unzipped_code_location()
        # By content. Base64 has slashes.
        first = Path(tempfile.gettempdir()) / "switchyard-code" / self.code_sha256.replace("/", "_")
        with lock:
            if first.exists():
                if not code.exists():
                    _link(first, code)
                return
            unpack(self)
            _link(code, first)

    S3Code.prepare_for_execution = prepare_for_execution


def _link(there: Path, here: Path) -> None:
    """The same files under another name: each of the two may be deleted, and neither is written to."""
    here.parent.mkdir(parents=True, exist_ok=True)
    # Whole or not at all.
    draft = Path(tempfile.mkdtemp(dir=here.parent))
    shutil.copytree(there, draft, copy_function=os.link, dirs_exist_ok=True)
    draft.rename(here)
