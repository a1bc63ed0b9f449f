"""Faults of the registry, the shared storage and the container runtime."""

from __future__ import annotations

import pytest

from suites.phase6 import test_task040_registry as registry
from suites.phase6 import test_task042_jobs as jobs
from suites.phase6 import test_task043_images as images
from suites.phase6 import test_task043_jobs as containers
from suites.phase6 import test_task043_runtime as runtime
from suites.phase6 import test_task043_security as security

from .cases import (
    ECL,
    NEEDED,
    Fault,
    apptainer_conf,
    put_to_the_test,
    sees,
)
from .inject import (
    APPTAINER_CONF,
    CATALOG,
    REGISTRY,
    SIF,
    edited,
    flipped,
    hidden,
    mode,
    shared_file,
    shell,
    unmounted,
    wrapped,
)
from .live import Live

pytestmark = NEEDED

FAULTS = [
    # the registry
    pytest.param(
        sees(
            registry.test_tree,
            f"controller: {REGISTRY}: custom-images is d 0755 root:slurm; expected",
            mode("controller", f"{REGISTRY}/custom-images", "0755", "0775"),
        ),
        id="registry folder not for the group",
        marks=pytest.mark.seen_to_fail("STO-30"),
    ),
    pytest.param(
        Fault(
            shared_file(CATALOG, f"echo 'images: [' >{CATALOG}"),
            [
                (registry.test_tree, r"controller: \.registry/catalog\.yaml cannot be read: ParserError.* line 2"),
                (registry.test_catalogue_is_the_files, r"controller: \.registry/catalog\.yaml cannot be read"),
                (registry.test_digest_from_build_to_every_node, r"controller: \.registry/catalog\.yaml cannot be read"),
                (images.test_images_are_whole, r"controller: \.registry/catalog\.yaml cannot be read"),
                (registry.test_images_named_in_jobs_exist, r"controller: \.registry/catalog\.yaml cannot be read"),
            ],
        ),
        id="catalogue cut short",
        marks=pytest.mark.seen_to_fail("STO-30", "STO-32", "CON-07", "CON-08", "CON-25"),
    ),
    pytest.param(
        Fault(
            shared_file(CATALOG, f"echo 'images: []' >{CATALOG}"),
            [
                (registry.test_tree, f"controller: {CATALOG} lists no image"),
                (
                    registry.test_images_named_in_jobs_exist,
                    r"container-hello\.sbatch:\d+: names base-images/base\.sif, ",
                ),
            ],
        ),
        id="catalogue empty",
        marks=pytest.mark.seen_to_fail("STO-30", "CON-25"),
    ),
    pytest.param(
        Fault(
            shared_file(SIF, flipped(SIF, 5_000_000)),
            [
                (registry.test_catalogue_is_the_files, f"controller: {SIF} has sha256 .* was changed or damaged"),
                (images.test_images_are_whole, f"controller: {SIF} reads with sha256 .*, the catalogue says"),
                (registry.test_digest_from_build_to_every_node, "controller: base-images/base.sif reads with sha256 "),
            ],
        ),
        id="one byte of an image changed",
        marks=pytest.mark.seen_to_fail("STO-32", "CON-07", "CON-08"),
    ),
    pytest.param(
        sees(
            registry.test_catalogue_is_the_files,
            f"controller: {REGISTRY}/custom-images/mine.sif is not in .registry/catalog.yaml; add it or remove",
            shell(
                "controller", f"cp {SIF} {REGISTRY}/custom-images/mine.sif", f"rm -f {REGISTRY}/custom-images/mine.sif"
            ),
        ),
        id="image that nobody registered",
        marks=pytest.mark.seen_to_fail("STO-32"),
    ),
    pytest.param(
        Fault(
            shell(
                "node02",
                f"head -c 1000000 {SIF} >/root/stale.sif && mount --bind /root/stale.sif {SIF}",
                f"umount {SIF}; rm -f /root/stale.sif",
            ),
            [
                (images.test_images_are_whole, f"node02: {SIF} reads with sha256 .*, the catalogue says"),
                (registry.test_digest_from_build_to_every_node, "node02: base-images/base.sif reads with sha256 "),
                (registry.test_container_under_slurm, f"node02: srun apptainer exec {SIF} ended with 255 .*squashfuse"),
            ],
        ),
        id="stale copy of an image on one node",
        marks=pytest.mark.seen_to_fail("CON-07", "CON-08", "CON-13"),
    ),
    # the shared storage
    pytest.param(
        Fault(
            unmounted("node02"),
            [
                (
                    registry.test_new_image_is_visible_everywhere,
                    "node02: .*, written on node01, reads as nothing after",
                ),
                (
                    registry.test_fallback_without_shared_storage,
                    "node02: registry-path says .*/mnt/shared is not mounted",
                ),
                (
                    containers.test_same_image_on_all_nodes_at_once,
                    "node02: srun of one container on each .*FATAL: .*lstat",
                ),
                (containers.test_shared_folder_bound, "node02: .* bound to /bound can't be written: .*no such file"),
            ],
        ),
        id="shared storage not mounted",
        marks=pytest.mark.seen_to_fail("STO-31", "STO-33", "CON-14", "CON-19"),
    ),
    pytest.param(
        Fault(
            shell("node01", "mount -o remount,bind,ro /mnt/shared", "mount -o remount,bind,rw /mnt/shared"),
            [
                (registry.test_new_image_is_visible_everywhere, "node01: .* can't be written: .*Read-only file system"),
                (containers.test_shared_folder_bound, "node01: .* bound to /bound can't be written: .*INFO"),
                (jobs.test_output_files_and_working_directory, r"job \d+ \(streams\) on node01: ended as FAILED"),
            ],
        ),
        id="shared storage read-only on one node",
        marks=pytest.mark.seen_to_fail("STO-31", "CON-19", "SLU-15"),
    ),
    pytest.param(
        sees(
            registry.test_fallback_without_shared_storage,
            "node02: /opt/containers, the registry to fall back on, does not exist",
            hidden("node02", "/opt/containers"),
        ),
        id="nothing to fall back on",
        marks=pytest.mark.seen_to_fail("STO-33"),
    ),
    pytest.param(
        sees(
            registry.test_fallback_without_shared_storage,
            "node02: registry-path failed with 127: .*not found",
            hidden("node02", "/usr/local/bin/registry-path"),
        ),
        id="registry-path missing",
        marks=pytest.mark.seen_to_fail("STO-33"),
    ),
    # containers
    pytest.param(
        Fault(
            hidden("node02", "/usr/bin/apptainer"),
            [
                (runtime.test_version_and_dependencies, "node02: `apptainer --version` says .*not found"),
                (registry.test_container_under_slurm, f"node02: srun apptainer exec {SIF} ended with 2"),
                (images.test_missing_or_corrupt_image, "node02: a container of a missing image failed with 'runuser: "),
            ],
        ),
        id="no apptainer on one node",
        marks=pytest.mark.seen_to_fail("CON-01", "CON-13", "CON-23"),
    ),
    pytest.param(
        sees(
            runtime.test_security_configuration,
            f"node02: {APPTAINER_CONF}: 'mount hostfs' is yes; expected no",
            apptainer_conf("mount hostfs", "no", "yes"),
        ),
        id="host's file systems mounted",
        marks=pytest.mark.seen_to_fail("CON-02"),
    ),
    pytest.param(
        sees(
            runtime.test_security_configuration,
            f"node02: {ECL} is not TOML: ",
            edited("node02", ECL, "activated = false", "activated = maybe"),
        ),
        id="broken execution policy",
        marks=pytest.mark.seen_to_fail("CON-02"),
    ),
    pytest.param(
        sees(
            runtime.test_security_configuration,
            "node02: /usr/bin/apptainer is set-uid; expected no set-uid program",
            mode("node02", "/usr/bin/apptainer", "u+s", "u-s"),
        ),
        id="apptainer set-uid",
        marks=pytest.mark.seen_to_fail("CON-02"),
    ),
    pytest.param(
        sees(
            runtime.test_exec_run_binds_tmp_home,
            r"node02: inside, the files put there read .*/home/hpc/\S+': None",
            apptainer_conf("mount home", "yes", "no"),
        ),
        id="no home in containers",
        marks=pytest.mark.seen_to_fail("CON-04"),
    ),
    pytest.param(
        sees(
            security.test_escalation_is_denied,
            r"node02: in a container, write /hostetc/passwd \(host\) gave OK; expected one of EACCES",
            mode("node02", "/etc/passwd", "0666", "0644"),
        ),
        id="accounts writable by all",
        marks=pytest.mark.seen_to_fail("CON-05"),
    ),
    pytest.param(
        sees(
            runtime.test_namespaces,
            "node02: without options, a container has its own pid namespace",
            wrapped("node02", 'verb=$1; shift; exec /usr/bin/apptainer "$verb" --pid "$@"'),
        ),
        id="wrapper that isolates too much",
        marks=pytest.mark.seen_to_fail("CON-06"),
    ),
    pytest.param(
        sees(
            runtime.test_environment,
            "node02: without options, a container has .* of its caller; expected .*AI_HOW_SECRET",
            wrapped("node02", 'exec env -i HOME="$HOME" PATH=/usr/bin:/bin /usr/bin/apptainer "$@"'),
        ),
        id="wrapper that loses the environment",
        marks=pytest.mark.seen_to_fail("CON-20"),
    ),
    pytest.param(
        sees(
            images.test_missing_or_corrupt_image,
            "node02: a container of a missing image ended with 0: FATAL: ",
            wrapped("node02", '/usr/bin/apptainer "$@"; exit 0'),
        ),
        id="wrapper that hides failures",
        marks=pytest.mark.seen_to_fail("CON-23"),
    ),
]


@pytest.mark.parametrize("fault", FAULTS)
def test_the_check_goes_red_names_the_culprit_and_recovers(live: Live, fault: Fault) -> None:
    put_to_the_test(live, fault)
