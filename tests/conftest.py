"""Before anything imports Ray: it reads its settings at import, once for the whole process."""

import os

from deployments.cluster import SETTINGS

os.environ.update(SETTINGS)
