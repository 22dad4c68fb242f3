# For NVIDIA GPUs. CUDA comes with JAX's wheels; the host needs the driver and its container toolkit.
#   docker build -f docs/docker/cuda12.Dockerfile -t dcmu_jax:cuda12 .
#   docker run --rm --gpus all -v "$PWD/runs:/srv/runs" dcmu_jax:cuda12 dcmu run --out runs/first
FROM python:3.13-slim
WORKDIR /srv
COPY . /opt/dcmu_jax
RUN pip install --no-cache-dir -c /opt/dcmu_jax/constraints.txt "/opt/dcmu_jax[cuda12]"
# Stops where JAX does not see the GPU, and would compute on the CPU.
ENTRYPOINT ["/opt/dcmu_jax/docs/docker/entry.sh"]
CMD ["dcmu", "run", "--out", "runs/first"]
