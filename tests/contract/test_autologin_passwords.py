"""The file of passwords that `hpcimg autologin` reads."""

from __future__ import annotations

from test_autologin import autologin, hub, root  # noqa: F401 - fixtures


def test_a_password_file_that_others_may_read(autologin, tmp_path):  # noqa: F811 - a fixture
    """It is told before a login is used that everybody on the node knows."""
    path = tmp_path / "open"
    path.write_text("qnib-type1:x\n")
    path.chmod(0o644)
    code, _, err = autologin(given=(f"--password-file={path}",))
    assert (code, "are not safe" in err) == (78, True)


def test_a_password_file_that_is_not_there(autologin, tmp_path):  # noqa: F811 - a fixture
    """Two lines, and no trace."""
    code, _, err = autologin(given=(f"--password-file={tmp_path}/none",))
    assert (code, "no such file" in err) == (2, True)
