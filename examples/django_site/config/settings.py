"""Settings of a small site in the shape of ConnectBot v21."""

from pathlib import Path

from decouple import config

from connectbot.django import redis_settings

BASE_DIR = Path(__file__).resolve().parent.parent

SECRET_KEY = config("SECRET_KEY", default="only-for-this-example")
DEBUG = config("DEBUG", default=True, cast=bool)
ALLOWED_HOSTS = ["localhost", "127.0.0.1"]

# Redis Configuration
REDIS_URL = config("REDIS_URL", default="redis://localhost:6379/0")
JAVA_SERVICE_URL = config("JAVA_SERVICE_URL", default="http://localhost:8080")

# CACHES, SESSION_ENGINE and SESSION_CACHE_ALIAS as in v21. Once no process with v21's own files is left, add
# serializer="json", and set CACHE_SERIALIZER=json and CACHE_VERSION=2 for site and worker.
globals().update(redis_settings(redis_url=REDIS_URL, java_service_url=JAVA_SERVICE_URL))

INSTALLED_APPS = [
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "connectbot.django",
    "employees",
]
MIDDLEWARE = ["django.contrib.sessions.middleware.SessionMiddleware"]
ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": config("DATABASE_PATH", default=str(BASE_DIR / "db.sqlite3")),
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

LANGUAGE_CODE = "ru"
TIME_ZONE = "Europe/Moscow"
USE_TZ = True

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "root": {"handlers": ["console"], "level": "INFO"},
}
