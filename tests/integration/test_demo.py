"""The command `prefect-tracktor demo`."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from prefect_tracktor import demo

PRINT_THE_API = "from prefect.settings import PREFECT_API_URL; print(PREFECT_API_URL.value() or '')"


def test_the_demo_uses_no_prefect_server_that_a_file_of_the_folder_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(".env").write_text("PREFECT_API_URL=http://127.0.0.1:9/api\n")
    printed: list[str] = []

    # the real command takes two minutes
    def run_instead(_command: list[str], **options: Any) -> int:
        command = [sys.executable, "-c", PRINT_THE_API]
        done = subprocess.run(command, **options, capture_output=True, text=True, check=True)
        printed.append(done.stdout.strip())
        return 0

    monkeypatch.setattr(subprocess, "call", run_instead)
    assert demo.main() == 0
    assert printed == [""]
