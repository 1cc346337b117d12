"""fastoptim demo, as a user runs it."""

import sys

import numpy as np
import pytest

from fastoptim import cli, listings, mlp


def test_table_picture_and_progress(tmp_path, capsys):
    pytest.importorskip("sklearn")
    output = tmp_path / "new" / "folder"
    assert cli.main(["demo", "--epochs", "2", "--output", str(output)]) == 0
    out, _ = capsys.readouterr()
    lines = [line.split() for line in out.splitlines()]
    for rule in ("SGD", "Momentum", "Nesterov", "AdaGrad", "RMSprop", "Adam"):
        row = next(line for line in lines if line and line[0] == rule)
        assert len(row) == 9
        assert row[-1] == "yes"
    picture = (output / "loss.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert len(picture) > 10_000


def test_it_learns(tmp_path, capsys):
    pytest.importorskip("sklearn")
    assert cli.main(["demo", "--epochs", "20", "--output", str(tmp_path), "--quiet"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    accuracy = {line.split()[0]: line.split()[2] for line in out.splitlines() if "%" in line}
    for rule in ("Momentum", "AdaGrad", "RMSprop", "Adam"):
        assert float(accuracy[rule].rstrip("%")) > 90


def test_a_run_that_differs_is_an_error(tmp_path, capsys, monkeypatch):
    pytest.importorskip("sklearn")

    class OneBitOff(listings.Adam):
        def update(self, params, grads):
            super().update(params, grads)
            if self.iter == 7:
                params["b2"][3] = np.nextafter(params["b2"][3], np.float32(9))

    monkeypatch.setattr(listings, "Adam", OneBitOff)
    assert cli.main(["demo", "--epochs", "1", "--output", str(tmp_path), "--quiet"]) == 1
    out, err = capsys.readouterr()
    assert "Adam ended on other bits than the NumPy listing" in err
    assert next(line for line in out.splitlines() if line.startswith("Adam")).endswith("NO")


def test_gradients_of_the_network_are_right():
    """Against central differences in float64."""
    rng = np.random.default_rng(0)
    params = {k: p.astype(float) for k, p in mlp.init([5, 7, 6, 3], 1).items()}
    params["b1"] += 0.1
    x, t = rng.standard_normal((8, 5)), rng.integers(0, 3, 8)
    grads = mlp.gradients(params, x, t)
    assert set(grads) == set(params)
    for key, p in params.items():
        for i in np.ndindex(p.shape):
            kept = p[i]
            p[i] = kept + 1e-6
            above = mlp.loss(params, x, t)
            p[i] = kept - 1e-6
            below = mlp.loss(params, x, t)
            p[i] = kept
            assert grads[key][i] == pytest.approx((above - below) / 2e-6, abs=2e-6)


@pytest.mark.parametrize("epochs", ["0", "-1", "x", "1.5"])
def test_bad_epochs(epochs, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["demo", "--epochs", epochs])
    assert stop.value.code == 2
    assert f"must be a whole number of at least 1, got '{epochs}'" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written(tmp_path, capsys):
    pytest.importorskip("sklearn")
    blocked = tmp_path / "file"
    blocked.write_text("")
    assert cli.main(["demo", "--epochs", "1", "--output", str(blocked), "--quiet"]) == 1
    assert f"cannot write to {blocked}" in capsys.readouterr().err


def test_without_the_extra(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert cli.main(["demo"]) == 1
    assert "pip install 'fastoptim[demo]'" in capsys.readouterr().err


def test_info_and_version(capsys):
    assert cli.main(["info"]) == 0
    assert "instructions:" in capsys.readouterr().out
    with pytest.raises(SystemExit) as stop:
        cli.main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out.startswith("fastoptim ")
