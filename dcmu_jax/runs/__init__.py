"""The main job: settings, stages, and runs on disk."""
