# The bot, without compilers, as an unprivileged user. Keep /var/lib/octocert on a volume: runs in progress stand there.

FROM python:3.11-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/octocert
WORKDIR /src
# The dependencies first, so that a change of the bot does not install them anew.
COPY requirements.lock ./
RUN /opt/octocert/bin/pip install --require-hashes --only-binary :all: -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY bot bot
COPY handlers handlers
RUN /opt/octocert/bin/pip install --no-deps . && /opt/octocert/bin/python -m compileall -q /opt/octocert/lib

FROM python:3.11-slim
LABEL org.opencontainers.image.title="octocert" org.opencontainers.image.licenses="Apache-2.0"
RUN useradd --system --uid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin octocert \
    && install --directory --owner=10001 --group=octocert --mode=0700 /var/lib/octocert
COPY --from=build /opt/octocert /opt/octocert
ENV PATH=/opt/octocert/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 10001
WORKDIR /var/lib/octocert
VOLUME /var/lib/octocert
STOPSIGNAL SIGTERM
# Asks /healthz where the configuration has [operating] listen; otherwise only that the process runs is known.
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s \
    CMD ["python", "-m", "bot.operating.healthcheck", "/etc/octocert/octocert.toml"]
ENTRYPOINT ["octocert"]
CMD ["run", "--config", "/etc/octocert/octocert.toml"]
