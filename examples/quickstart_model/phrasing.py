"""The ways in which a thing can be asked for, and the noise that people add."""

import random

CONCEPT_PATTERNS = (
    "What is {}?",
    "What does {} do?",
    "Explain {}.",
    "Tell me about {}.",
    "What is {} for?",
    "Can you explain {}?",
    "Define {}.",
    "What do you know about {}?",
    "I want to understand {}.",
    "Describe {}.",
    "What does {} mean?",
    "Help me understand {}.",
    "In simple words, what is {}?",
    "Why would I use {}?",
    "Could you tell me what {} is?",
    "Tell me what {} does.",
    "Do you know what {} is?",
    "Explain what {} is.",
)
UNKNOWN_PATTERNS = (
    *CONCEPT_PATTERNS[:10],
    "Who was {}?",
    "Who is {}?",
    "Where is {}?",
    "Can you help me with {}?",
    "What do you think about {}?",
)
COLOUR_PATTERNS = (
    "What colour is {}?",
    "Which colour is {}?",
    "Tell me the colour of {}.",
    "What is the colour of {}?",
    "What colour does {} have?",
    "Which colour does {} have?",
    "Name the colour of {}.",
    "Do you know the colour of {}?",
)
OPPOSITE_PATTERNS = (
    "What is the opposite of {}?",
    "Tell me the opposite of {}.",
    "Name the opposite of {}.",
    "Which word is the opposite of {}?",
    "What is the contrary of {}?",
    "Do you know the opposite of {}?",
)
AFTER_PATTERNS = (
    "What comes after {}?",
    "Which {kind} comes after {}?",
    "What {kind} follows {}?",
    "Tell me the {kind} after {}.",
    "Name the {kind} after {}.",
    "What is the {kind} after {}?",
)
BEFORE_PATTERNS = (
    "What comes before {}?",
    "Which {kind} comes before {}?",
    "Tell me the {kind} before {}.",
    "Name the {kind} before {}.",
    "What is the {kind} before {}?",
)
COUNT_PATTERNS = (
    "Count to {}.",
    "Please count to {}.",
    "Can you count to {}?",
    "Count from one to {}.",
    "Count up to {}.",
)
PLUS_PATTERNS = (
    "What is {} plus {}?",
    "How much is {} plus {}?",
    "Add {} and {}.",
    "What is the sum of {} and {}?",
    "Tell me {} plus {}.",
)
PLUS_SIGN_PATTERNS = ("{} + {}?", "What is {} + {}?", "How much is {} + {}?")
MINUS_PATTERNS = (
    "What is {} minus {}?",
    "How much is {} minus {}?",
    "Tell me {} minus {}.",
    "What is the difference of {} and {}?",
)
MINUS_SIGN_PATTERNS = ("{} - {}?", "What is {} - {}?", "How much is {} - {}?")

_OPENINGS = ("Please: ", "Hi! ", "Hey, ", "OK. ", "One question: ", "So, ", "And ")


def noisy(question: str, rng: random.Random) -> str:
    """The question as people type it: without capitals or marks, with a word before it."""
    if rng.random() < 0.15:
        question = rng.choice(_OPENINGS) + question
    if rng.random() < 0.25:
        question = question.lower()
    if rng.random() < 0.2:
        question = question.rstrip("?.!")
    return question
