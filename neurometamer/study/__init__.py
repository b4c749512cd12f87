"""A study: settings (study.toml), the plan of its steps, and one short function a step."""
