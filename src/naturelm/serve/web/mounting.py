"""The page as a part of the application."""

import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.middleware import Middleware

from naturelm.serve.asking import Asker
from naturelm.serve.options import ServeOptions
from naturelm.serve.web.gate import PageGate, folder_has_room

if TYPE_CHECKING:
    from fastapi import FastAPI

_KEPT_UPLOADS = 32
"""Of the largest size: more are not taken until some are deleted."""


def mount_web(app: "FastAPI", asker: Asker, options: ServeOptions) -> "FastAPI":
    """Put the page at `/` of the application, beside all routes that it has by now; those added later are not reached.

    What the page keeps lies in a folder of its own, which goes with the application's lifespan. Calling
    `app.state.close_web()` stops scans and lets go of the connections that open pages hold, which a server that is
    to stop would wait for.
    """
    folder = Path(tempfile.mkdtemp(prefix="naturelm-web-"))
    cache, work = folder / "uploads", folder / "work"
    cache.mkdir()
    work.mkdir()
    # Gradio reads these from the environment alone, some of them at each use.
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["GRADIO_TEMP_DIR"] = str(cache)
    import gradio as gr

    from naturelm.serve.web.page import Page

    page = Page(asker, options, cache, work)

    @asynccontextmanager
    async def lifespan(_app: "FastAPI") -> AsyncIterator[None]:
        yield
        page.scans.close()
        shutil.rmtree(folder, ignore_errors=True)

    def has_room() -> bool:
        return folder_has_room(cache, _KEPT_UPLOADS * options.limits.body_bytes)

    blocks = page.blocks()
    # Only then gradio looks at which files a call names; the gate does so before.
    blocks.has_launched = True
    gr.mount_gradio_app(
        app,
        blocks,
        path="/",
        allowed_paths=[],
        show_error=False,
        max_file_size=options.limits.body_bytes,
        footer_links=[],
        run_history=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        ssr_mode=False,
        theme=_theme(),
        css_paths=[Path(__file__).parent / "page.css"],
        app_kwargs={
            "middleware": [Middleware(PageGate, folder=cache, has_room=has_room)],
            "lifespan": lifespan,
            "docs_url": None,
            "redoc_url": None,
            "openapi_url": None,
        },
    )
    mounted = app.routes[-1].app  # type: ignore[attr-defined]

    def close_web() -> None:
        page.scans.close()
        mounted.stop_event.set()

    app.state.close_web = close_web
    return app


def _theme() -> object:
    """Colours that are readable, and the system's own letters: gradio's are fetched from elsewhere in some themes."""
    import gradio as gr

    return gr.themes.Default(
        primary_hue=gr.themes.colors.teal,
        secondary_hue=gr.themes.colors.teal,
        neutral_hue=gr.themes.colors.gray,
        font=["system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "Arial", "sans-serif"],
        font_mono=["ui-monospace", "Consolas", "monospace"],
    ).set(
        button_primary_background_fill="#0b6e69",
        button_primary_background_fill_hover="#095a56",
        button_primary_background_fill_dark="#0b6e69",
        button_primary_text_color="white",
    )
