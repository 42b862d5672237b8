# The worker, for all its roles: what a container does is the command it is given (see docker-compose.yml).

FROM python:3.12-slim AS build
RUN python -m venv /opt/connectbot
ENV PATH=/opt/connectbot/bin:$PATH
WORKDIR /build
COPY . .
RUN pip install --no-cache-dir -c constraints.txt .

FROM python:3.12-slim
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin connectbot
COPY --from=build /opt/connectbot /opt/connectbot
ENV PATH=/opt/connectbot/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
WORKDIR /srv
USER 10001
CMD ["celery", "-A", "worker", "worker", "-Q", "default"]
