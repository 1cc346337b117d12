RULES: dict[str, object]
PASSES: dict[str, object]
