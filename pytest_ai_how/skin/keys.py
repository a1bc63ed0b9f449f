"""Where the plugin keeps its things: keys of pytest's stashes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_ai_how.config.models import ClusterConfig
    from pytest_ai_how.report.evidence import Evidence
    from pytest_ai_how.report.measurements import Measurements
    from pytest_ai_how.skin.crew import Crew
    from pytest_ai_how.skin.outcomes import Outcomes
    from pytest_ai_how.skin.settings import Settings
    from pytest_ai_how.skin.trial import Trial

# of the session's configuration
SETTINGS: pytest.StashKey[Settings] = pytest.StashKey()
CLUSTER: pytest.StashKey[ClusterConfig] = pytest.StashKey()
CREW: pytest.StashKey[Crew] = pytest.StashKey()
OUTCOMES: pytest.StashKey[Outcomes] = pytest.StashKey()
DISTRIBUTION: pytest.StashKey[str] = pytest.StashKey()
ORDERED: pytest.StashKey[bool] = pytest.StashKey()
# the capabilities that other plugins added; absent where nobody asked them (--collect-only)
ADDED: pytest.StashKey[tuple[str, ...]] = pytest.StashKey()

# of a test item
TRIAL: pytest.StashKey[Trial] = pytest.StashKey()
CONSOLES: pytest.StashKey[Mapping[str, int]] = pytest.StashKey()
EVIDENCE: pytest.StashKey[Evidence] = pytest.StashKey()
MEASUREMENTS: pytest.StashKey[Measurements] = pytest.StashKey()
PLAIN_ID: pytest.StashKey[str] = pytest.StashKey()
# the cluster's record says that it is putting a fault into the cluster
BREAKS: pytest.StashKey[bool] = pytest.StashKey()
