"""The bench of the chain, on a record of some hundred decisions."""

import json

from bench import chain


def test_cost_checking_and_migrations_are_measured(tmp_path, capsys):
    file = tmp_path / "chain.json"
    arguments = ["--decisions", "300", "--processes", "2", "--rounds", "2", "--seconds", "0.3"]
    code = chain.main([*arguments, "--json", str(file)])
    found = json.loads(file.read_text())
    assert found["chained"] > 0
    assert found["plain"] > 0
    assert found["verify_seconds"] > 0
    assert [one["name"].split()[0] for one in found["migrations"]] == ["down", "up", "down", "up"]
    assert all(one["longest_wait"] > 0 for one in found["migrations"])
    met = found["cost"] <= 0.10 and found["verify_seconds_of_a_million"] < 60
    assert code == (0 if met else 1)
    assert "| what the chain costs | " in capsys.readouterr().out


def test_rounds_alternate_so_that_what_drifts_meets_both_alike():
    turns = [chain._chained(turn) for turn in range(8)]
    assert turns == [True, False, False, True] * 2
