"""The board: one small web service that shows what launchq does, and drives it over HTTP.

`app.make_app(settings)` makes the ASGI app; `launchq board` serves it. Nothing here is imported by anything else of launchq:
what it needs comes with the extra `board`.
"""
