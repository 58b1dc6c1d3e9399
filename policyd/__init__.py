"""Answers Postfix's policy questions: may this principal use this envelope sender, has it anything left?"""
