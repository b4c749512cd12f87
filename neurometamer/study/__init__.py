"""A study: settings (study.toml), the plan of what is done and what to do, and one short function a step."""
