# One image for every process of the stack: it holds what `make install` puts into a checkout.
FROM python:3.11-slim-bookworm AS build
RUN apt-get update \
    && apt-get install --yes --no-install-recommends maven gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /millrace
# Only what the installation reads, so that a change of our code does not fetch everything again.
COPY requirements.lock ./
COPY infra/__init__.py infra/settings.env ./infra/
COPY infra/local/__init__.py infra/local/install.py infra/local/settings.py infra/local/pom.xml ./infra/local/
COPY ingest/connect ./ingest/connect
COPY schemas/avro ./schemas/avro
RUN python3.11 -m infra.local.install

FROM python:3.11-slim-bookworm
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgomp1 libstdc++6 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --create-home millrace \
    && mkdir /state && chown millrace /state
WORKDIR /millrace
COPY --from=build --chown=millrace /millrace/.venv ./.venv
COPY --from=build --chown=millrace /millrace/.runtime ./.runtime
COPY . .
ENV PATH=/millrace/.venv/bin:$PATH PYTHONPATH=/millrace PYTHONUNBUFFERED=1 MILLRACE_HOME=/state
USER millrace
VOLUME /state
ENTRYPOINT ["python", "-m", "infra.local.launch"]
CMD ["gateway"]
