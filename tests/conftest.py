"""Before anything imports Ray: it reads its settings at import, once for the whole process."""

import os

from hypothesis import settings

from deployments.cluster import SETTINGS

os.environ.update(SETTINGS)

# Properties say what holds, not how soon: on a busy machine an import in the first example takes longer than the
# default of 200 ms. What must be quick has a test that measures it.
settings.register_profile("manta", deadline=None)
settings.load_profile("manta")
