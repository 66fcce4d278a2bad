# The web page in a container. It needs no network, and writes to /tmp, and the catalogue of a library to /data.
#   docker compose up          (see compose.yaml)
FROM python:3.12-slim AS build
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY src src
# Wheels are made for every part of it, so nothing is compiled.
RUN python -m venv /opt/genrescope && \
    /opt/genrescope/bin/pip install --no-cache-dir --disable-pip-version-check \
      --constraint constraints.txt '.[similar,library]'

FROM python:3.12-slim
COPY --from=build /opt/genrescope /opt/genrescope
RUN useradd --system --uid 10001 --home-dir /tmp --no-create-home --shell /usr/sbin/nologin genrescope && \
    install -d -o genrescope /data
ENV PATH=/opt/genrescope/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    XDG_CACHE_HOME=/tmp/cache \
    XDG_DATA_HOME=/data \
    MPLCONFIGDIR=/tmp/matplotlib
USER 10001
WORKDIR /tmp
EXPOSE 7860
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 \
  CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:7860/healthz', timeout=4)"]
# GENRESCOPE_TOKEN, if it is set, is what visitors must know.
CMD ["genrescope", "serve", "--host", "0.0.0.0", "--port", "7860", "--max-mb", "30"]
