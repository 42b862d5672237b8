"""Who takes part."""

from django.db import models


class Employee(models.Model):
    """A colleague; ``role`` decides which main menu the bot shows."""

    name = models.CharField(max_length=100)
    role = models.CharField(max_length=20, default="employee")
