"""From a name or a file to a configuration."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from pytest_ai_how.config.loader import config_names, load_config, load_file
from pytest_ai_how.config.reference import refer
from pytest_ai_how.errors import ConfigError
from pytest_ai_how.marked import MAX_BYTES
from tests.unit.config.samples import SOUND, load


@pytest.mark.parametrize("name", config_names())
def test_every_shipped_configuration_is_valid(name: str) -> None:
    path = refer(name).path
    found = load_file(path, environ={})
    assert found
    assert all(config.name == name for key, config in found.items() if not key)
    assert path.read_text().startswith("# yaml-language-server: $schema=./cluster.schema.json\n")


def test_the_shipped_names() -> None:
    assert {"local", "site"} <= set(config_names())
    assert not {"checks", "versions"} & set(config_names())


def test_local_is_what_was_agreed() -> None:
    config = load_config("local", environ={})
    assert [(node.name, node.gpus.count if node.gpus else 0) for node in config.nodes] == [
        ("controller", 0),
        ("node01", 2),
        ("node02", 2),
    ]
    assert config.slurm is not None
    assert [(part.name, part.default) for part in config.slurm.partitions] == [("gpu", True), ("debug", False)]
    assert (config.driver, config.storage.kind, config.storage.mount) == ("auto", "host-directory", "/mnt/shared")


def test_unknown_name_lists_the_known_and_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"^--cluster: no cluster is named 'locl'; known: .*local.*; or give a file"):
        load_config("locl")
    with pytest.raises(ConfigError, match=r"\(did you mean 'local'\?\)$"):
        load_config("locl")


@pytest.mark.parametrize("name", ["; rm -rf /tmp/x", "a\nb", "$(id)", "x" * 300, "", ".."])
def test_hostile_names_are_shown_escaped_and_short(name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(name)
    assert "\n" not in str(caught.value)
    assert "x" * 61 not in str(caught.value)


def test_file_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.yaml: no such file$"):
        load_config(str(tmp_path / "gone.yaml"))


def test_file_is_a_directory(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"is a directory, not a YAML file$"):
        load_config(f"{tmp_path}/")


def test_file_is_unreadable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "secret.yaml"
    path.write_text(SOUND)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)  # root, who runs these tests, may read everything
    with pytest.raises(ConfigError, match=r"secret\.yaml: cannot be read: Permission denied$"):
        load_config(str(path))


def test_file_is_too_large(tmp_path: Path) -> None:
    path = tmp_path / "large.yaml"
    path.write_bytes(b"#" * (MAX_BYTES + 1))
    with pytest.raises(ConfigError, match=r"larger than 1024 KiB"):
        load_config(str(path))


def test_too_many_values_without_an_alias(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r":1: more than 20000 values$"):
        load(tmp_path, "absent: [" + "x," * 50_000 + "x]\n")


def test_file_below_here_is_named_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.yaml").write_text(SOUND + "x: 1\n")
    with pytest.raises(ConfigError, match=r"^bad\.yaml:12: x: unknown key"):
        load_config("./bad.yaml")


def test_unknown_limits_name_the_known(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r":12: limits: no limits are named 'locl'; known: .*local"):
        load(tmp_path, SOUND + "limits: locl\n")


def test_unknown_capability_lists_all_when_none_is_near(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no capability is named 'warp' \(known: slurm, accounting, diagnosis, "):
        load(tmp_path, SOUND + "absent: [warp]\n")


def test_byte_order_mark_is_tolerated(tmp_path: Path) -> None:
    path = tmp_path / "t.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + SOUND.encode())
    assert load_config(str(path)).name == "t"


def test_merged_keys_give_way_to_written_ones(tmp_path: Path) -> None:
    text = """\
version: 1
name: t
driver: ssh
storage: {kind: existing}
nodes:
  - &first {name: a, roles: [controller], address: 10.0.0.1, cpus: 7, memory: 512}
  - {<<: *first, name: b, roles: [compute], address: 10.0.0.2, memory: 1024}
"""
    second = load(tmp_path, text).nodes[1]
    assert (second.name, second.cpus, second.memory) == ("b", 7, 1024)


@pytest.mark.parametrize("value", ["01:30:00", '"01:30:00"', "1-00:00:00", '"30"', "UNLIMITED"])
def test_times_stay_texts(tmp_path: Path, value: str) -> None:
    slurm = load(tmp_path, SOUND.replace("default: true", f"default: true, max_time: {value}")).slurm
    assert slurm is not None
    assert slurm.partitions[0].max_time == value.strip('"')


def test_bare_minutes_need_quotes(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"max_time: is 30, expected a text \(put it in quotes\)"):
        load(tmp_path, SOUND.replace("default: true", "default: true, max_time: 30"))


def test_existing_cluster_needs_no_network(tmp_path: Path) -> None:
    text = SOUND.replace("driver: nspawn", "driver: ssh\nstorage: {kind: existing}")
    text = text.replace("network: {subnet: 10.79.0.0/24, bridge: aihow-t}\n", "")
    assert load(tmp_path, text).network is None


def test_error_survives_the_way_between_workers() -> None:
    import pickle

    with pytest.raises(ConfigError) as caught:
        load_config("nosuch")
    copy = pickle.loads(pickle.dumps(caught.value))
    assert str(copy) == str(caught.value)
    assert copy.problems == caught.value.problems


def test_vm_is_local_on_virtual_machines() -> None:
    """What passes on one is to pass on the other: they differ in name, driver, network and how long all takes."""
    local, vm = (load_config(name, environ={}) for name in ("local", "vm"))
    assert vm.driver == "libvirt"
    same = vm.model_copy(
        update={
            "name": local.name,
            "driver": local.driver,
            "network": local.network,
            "slurm": local.slurm,
            "limits": local.limits,
            "monitoring": vm.monitoring.model_copy(update={"scrape_interval": local.monitoring.scrape_interval}),
            "nodes": tuple(
                node.model_copy(update={"address": other.address})
                for node, other in zip(vm.nodes, local.nodes, strict=True)
            ),
        }
    )
    assert same == local
    assert vm.slurm is not None
    assert local.slurm is not None
    assert vm.slurm.model_copy(update={"cluster": local.slurm.cluster}) == local.slurm
