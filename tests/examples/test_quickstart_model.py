"""The quickstart's model: its text, its tokenizer, and that the script makes a model that loads."""

import json
import random
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest
from quickstart_model.corpus import make_corpus
from quickstart_model.phrasing import noisy
from quickstart_model.record import inputs_digest, is_made_from
from quickstart_model.samples import SampleMaker
from quickstart_model.tokenizing import ASSISTANT, END, USER, VOCABULARY, train_tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer

from modelserver_runtime.artifacts import ArtifactPolicy, check_directory
from modelserver_runtime.backends.native.weights import objection

EXAMPLES = Path(__file__).parents[2] / "examples"
# A ConfigMap brings the scripts into the cluster.
CONFIG_MAP_BYTES = 1_000_000


@pytest.fixture(scope="module")
def corpus():
    return make_corpus(0)


@pytest.fixture(scope="module")
def tokenizer(corpus):
    return train_tokenizer([e.question + e.answer for e in corpus.training])


class TestCorpus:
    def test_it_is_the_same_every_time(self, corpus):
        assert make_corpus(0) == corpus
        assert make_corpus(1) != corpus

    def test_a_question_has_one_answer(self, corpus):
        answers = defaultdict(set)
        for exchange in (*corpus.training, *corpus.held_out):
            answers[exchange.question.lower().rstrip("?.!")].add(exchange.answer)
        assert not {question: given for question, given in answers.items() if len(given) > 1}

    def test_held_out_wordings_are_not_trained_but_their_answers_are(self, corpus):
        trained = {exchange.question for exchange in corpus.training}
        assert not [exchange for exchange in corpus.held_out if exchange.question in trained]
        assert {e.answer for e in corpus.held_out} <= {e.answer for e in corpus.training}

    def test_enough_of_every_kind_is_held_out(self, corpus):
        kinds = {exchange.kind for exchange in corpus.training}
        assert {exchange.kind for exchange in corpus.held_out} == kinds
        assert len(corpus.held_out) / len(corpus.training) > 0.1

    @pytest.mark.parametrize(
        ("question", "answer"),
        [
            ("What is 2 plus 3?", "2 plus 3 is 5."),
            ("What is ten minus four?", "Ten minus four is six."),
            ("What comes after Sunday?", "After Sunday comes Monday."),
            ("What comes before January?", "Before January comes December."),
            ("What is the opposite of cold?", "The opposite of cold is hot."),
            ("Count to three.", "One, two, three."),
            ("What colour is snow?", "Snow is white."),
        ],
    )
    def test_what_is_taught_is_true(self, corpus, question, answer):
        known = {e.question: e.answer for e in (*corpus.training, *corpus.held_out)}
        assert known[question] == answer

    def test_answers_are_sentences(self, corpus):
        for exchange in corpus.training:
            first = exchange.answer.split()[0]
            assert first[0].isupper() or first[0].isdigit() or first in {"etcd", "kubectl"}
            assert exchange.answer[-1] in ".!?"


class TestTokenizer:
    def test_any_text_survives(self, tokenizer):
        for text in ("What is ModelServer?", "Grüße, 世界! \n\t🙂", "  two  spaces "):
            assert tokenizer.decode(tokenizer.encode(text)) == text

    def test_a_chat_becomes_the_text_that_is_trained(self, tokenizer):
        messages = [
            {"role": "user", "content": " Hello! "},
            {"role": "assistant", "content": "Hi."},
            {"role": "user", "content": "Bye!"},
        ]
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        assert text == f"{USER}Hello!{END}{ASSISTANT}Hi.{END}{USER}Bye!{END}{ASSISTANT}"

    def test_an_unknown_role_is_refused(self, tokenizer):
        with pytest.raises(Exception, match="roles system, user and assistant"):
            tokenizer.apply_chat_template([{"role": "tool", "content": "x"}], tokenize=False)

    def test_the_vocabulary_is_bounded_and_markers_are_one_token(self, tokenizer):
        assert len(tokenizer) <= VOCABULARY
        assert len(tokenizer.encode(USER)) == len(tokenizer.encode(END)) == 1

    def test_only_answers_and_their_ends_are_learnt(self, corpus, tokenizer):
        (sample, *_) = next(SampleMaker(tokenizer, random.Random(3)).batches(corpus.training, 4))
        learnt = [
            t for t, is_answer in zip(sample.tokens, sample.is_answer, strict=True) if is_answer
        ]
        texts = tokenizer.decode(learnt).split(END)[:-1]
        assert texts
        assert set(texts) <= {exchange.answer for exchange in corpus.training}


def test_noise_changes_no_words():
    rng = random.Random(1)
    for _ in range(200):
        assert "what is a pod" in noisy("What is a pod?", rng).lower()


def test_the_scripts_fit_into_a_config_map():
    files = list((EXAMPLES / "quickstart_model").rglob("*.py"))
    assert {path.parent.name for path in files} == {"quickstart_model"}, "it holds no folders"
    assert sum(path.stat().st_size for path in files) < CONFIG_MAP_BYTES


def test_options_change_the_digest_of_the_inputs():
    assert inputs_digest({"steps": 1}) != inputs_digest({"steps": 2})


def train(directory, *options):
    return subprocess.run(
        [sys.executable, EXAMPLES / "train_quickstart_model.py", "--output", directory, *options],
        capture_output=True,
        text=True,
        check=False,
    )


def test_help_needs_no_torch_and_names_every_option():
    done = train("unused", "--help")
    assert done.returncode == 0
    for option in ("--output", "--steps", "--seconds", "--threads", "--seed", "--force"):
        assert option in done.stdout


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    directory = tmp_path_factory.mktemp("model")
    done = train(directory, "--steps", "3", "--threads", "1", "--questions", "8")
    assert done.returncode == 0, done.stderr
    return directory, done.stdout


@pytest.mark.slow
class TestTheScript:
    """A few steps make no good model, but a whole one."""

    def test_it_shows_how_far_it_is_and_how_good(self, made):
        assert "step    3 of 3" in made[1]
        assert "of    8 right" in made[1]
        assert "> What is ModelServer?" in made[1]

    def test_the_directory_is_a_model_for_the_runtime(self, made):
        assert check_directory(made[0], policy=ArtifactPolicy()).size_bytes > 3_500_000
        assert {path.stat().st_mode & 0o777 for path in made[0].iterdir()} == {0o644}
        assert "pipeline_tag: text-generation" in (made[0] / "README.md").read_text()

    def test_the_directory_loads_and_generates(self, made):
        tokenizer = AutoTokenizer.from_pretrained(made[0])
        model = AutoModelForCausalLM.from_pretrained(made[0])
        assert model.generation_config.eos_token_id == tokenizer.eos_token_id
        assert tokenizer.chat_template
        inputs = tokenizer.apply_chat_template(
            [{"role": "user", "content": "Hello!"}], add_generation_prompt=True, return_tensors="pt"
        )
        assert model.generate(**inputs, max_new_tokens=3).shape[1] > 3

    def test_the_native_engine_can_compute_it(self, made):
        model = AutoModelForCausalLM.from_pretrained(made[0], dtype="auto")
        assert objection(model) == ""

    def test_a_second_run_does_nothing(self, made):
        done = train(made[0], "--steps", "3")
        assert "holds this model already" in done.stdout

    def test_other_inputs_are_another_model(self, made):
        record = json.loads((made[0] / "training.json").read_text())
        assert is_made_from(made[0], record["inputs"])
        assert not is_made_from(made[0], inputs_digest({"steps": 4, "seed": 1}))
