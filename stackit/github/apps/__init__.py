"""GitHub Apps: their installations, and the tokens of these, renewed in time and kept in memory only."""

from stackit.github.apps.app import GitHubApp
from stackit.github.apps.apps import Apps
from stackit.github.apps.errors import AccessError, State
from stackit.github.apps.installation import Installation
from stackit.github.apps.records import Account, InstallationRecord
from stackit.github.apps.token import Narrowing

__all__ = ["AccessError", "Account", "Apps", "GitHubApp", "Installation", "InstallationRecord", "Narrowing", "State"]
