"""Configuration: which settings hold here, and which line of which source said so."""

from forge3d_core.config.environment import ConfigWarning
from forge3d_core.config.layers import Configuration, configuration
from forge3d_core.config.settings import PluginSettings, Settings
from forge3d_core.config.source import Choice, Layer, Origin, Source

__all__ = [
    "Choice",
    "ConfigWarning",
    "Configuration",
    "Layer",
    "Origin",
    "PluginSettings",
    "Settings",
    "Source",
    "configuration",
]
