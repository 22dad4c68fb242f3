"""Membership inference and unlearning audits: pure functions of what models say of examples."""
