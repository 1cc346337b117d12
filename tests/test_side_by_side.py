"""The script behind `make test` runs every file once, and says when one has failed."""

import pytest
import side_by_side


@pytest.mark.parametrize("count", [0, 1, 11, 12, 13, 100])
def test_every_file_is_in_one_group(tmp_path, count):
    files = []
    for number in range(count):
        files.append(tmp_path / f"test_{number}.py")
        files[-1].write_text("#" * (number % 7))
    groups = side_by_side.groups_of(files)
    assert sorted(file for group in groups for file in group) == sorted(files)
    sizes = [len(group) for group in groups]
    assert len(sizes) == min(count, side_by_side.GROUPS)
    assert not sizes or max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize(("bodies", "status"), [
    (("pass", "pass"), 0), (("pass", "assert False, 'why not'"), 1), (("assert False",), 1),
])
def test_what_fails_is_shown(tmp_path, monkeypatch, capsys, bodies, status):
    folder = tmp_path / "tests"
    folder.mkdir()
    for number, body in enumerate(bodies):
        (folder / f"test_{number}.py").write_text(f"def test_one():\n    {body}\n")
    monkeypatch.setattr(side_by_side, "HERE", folder)
    assert side_by_side.main([]) == status
    printed = capsys.readouterr().out
    assert f"{status} of {len(bodies)} groups failed" in printed
    assert all(body in printed for body in bodies if body != "pass")
    assert printed.count("1 passed") == bodies.count("pass")


def test_no_test_of_that_name_is_no_failure(tmp_path, monkeypatch, capsys):
    (tmp_path / "test_a.py").write_text("def test_one():\n    pass\n")
    monkeypatch.setattr(side_by_side, "HERE", tmp_path)
    assert side_by_side.main(["-k", "another"]) == 0
    assert "1 deselected" in capsys.readouterr().out
