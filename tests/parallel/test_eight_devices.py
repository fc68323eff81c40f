"""Loss and gradients on 8 fake devices (data 2, fsdp 2, tensor 2) equal one device's, in float32."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


def test_loss_and_gradients_on_eight_devices_equal_one():
    script = Path(__file__).parent / "eight_devices.py"
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=280, cwd=Path(__file__).parents[2]
    )
    assert done.returncode == 0, done.stderr[-2000:]
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["devices"] == 8
    assert abs(report["one"] - report["eight"]) < 1e-5 * abs(report["one"])
    assert report["gradient"] < 1e-5
    assert report["largest"] > 1e-2, "gradients so small that their difference says nothing"
    assert [2 * n for n in report["shard"]] == report["whole"], "split over fsdp and tensor"
    assert report["rows"] == 2, "8 rows over data and fsdp"
