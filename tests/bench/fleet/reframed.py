"""By ReFrame: a run-only test for each command and machine. Read by ReFrame's own Python, which has nothing of ours."""

import os
import shlex
import sys
from pathlib import Path

import reframe as rfm
import reframe.utility.sanity as sn

sys.path.insert(0, str(Path(__file__).parent))
from twenty import TWENTY


@rfm.simple_test
class Check(rfm.RunOnlyRegressionTest):
    """One command on one machine, whose output matches."""

    number = parameter(range(len(TWENTY)))  # noqa: F821  ReFrame's own namespace of a test class
    machine = parameter(os.environ["FLEET_MACHINES"].split())  # noqa: F821  as above
    valid_systems = ["*"]  # noqa: RUF012  ReFrame copies it
    valid_prog_environs = ["*"]  # noqa: RUF012  as above
    local = True
    executable = "ssh"

    @run_before("run")  # noqa: F821  as above
    def _over_ssh(self):
        _, argv, _ = TWENTY[self.number]
        self.executable_opts = ["-F", os.environ["FLEET_SSH_CONFIG"], self.machine, shlex.quote(shlex.join(argv))]

    @sanity_function  # noqa: F821  as above
    def _as_expected(self):
        _, _, wanted = TWENTY[self.number]
        return sn.assert_found(wanted.replace("(?m)", ""), self.stdout)
