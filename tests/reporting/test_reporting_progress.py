import io

from dcmu_jax.reporting import training_progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def train(**options):
    with training_progress("training [mlp]", 3, **options) as after_epoch:
        for epoch in (1, 2, 3):
            after_epoch(epoch, 1.0 / epoch, 30.0 * epoch)


def test_shows_loss_accuracy_and_epochs_on_a_terminal(monkeypatch):
    stream = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr("sys.stderr", stream)
    train()
    for text in ("training [mlp]", "3/3", "loss 0.3333", "accuracy 90.0 %", "left"):
        assert text in stream.getvalue()


def test_prints_nothing_without_a_terminal_or_when_disabled(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    train()
    monkeypatch.setattr("sys.stderr", terminal := Terminal())
    train(enabled=False)
    out = capsys.readouterr()
    assert (out.out, out.err, terminal.getvalue()) == ("", "", "")
