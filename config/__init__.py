"""The only reader of the environment: settings, what follows from them for Celery, and logging."""

from config.settings import Settings, SettingsError, load, seconds

__all__ = ["Settings", "SettingsError", "load", "seconds"]
