"""The web page: gradio's controls over the same queue as the API. Nothing of it comes from, or goes, outside."""

from naturelm.serve.web.mounting import mount_web

__all__ = ["mount_web"]
