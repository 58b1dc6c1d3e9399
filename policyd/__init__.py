"""Answers Postfix's policy delegation questions: may this principal use this envelope sender, and has it anything left to spend."""
