from typing import Any

class CallerParams:
    given: Any
    def __init__(self, params: object) -> None: ...
