"""What Django, the bot, the tasks and the worker of ConnectBot share.

Importing it needs neither Celery nor Django.
"""
