"""A command line in this process, for the tests in this folder."""

from hybridattn.cli import main as cli


def call(capsys, *argv):
    """(exit code, stdout, stderr) of a command line, in this process."""
    code = cli.main([str(a) for a in argv])
    out, err = capsys.readouterr()
    return code, out, err
