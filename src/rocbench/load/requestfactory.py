"""The requests of one cell, each made from its number alone, so that any worker can make any request."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rocbench import baseurl
from rocbench.errors import InputError
from rocbench.load import bodies, datasets, prompts
from rocbench.load.datasets import Turn
from rocbench.load.images import data_url
from rocbench.load.prompts import Key
from rocbench.load.spec import NO_COST, Dialect, LoadSpec, TextCost, Trace
from rocbench.load.tokens import Vocabulary, vocabulary
from rocbench.records import NONE, Resend


@dataclass(slots=True)
class Request:
    """A request ready to be sent."""

    request_id: int
    user: int
    turn: int
    isl_asked: int
    osl_asked: int
    images: int
    text_tokens: int
    """Known prompt tokens of the text, to derive the image's tokens; NONE if unknown."""
    name: str
    """The X-Request-Id header."""
    payload: bytes
    """The body, or the whole HTTP request for the wire. Dropped after sending."""
    conversation: int = NONE
    """Number of the conversation's first request."""
    rest: tuple[Turn, ...] = ()
    """Remaining turns of the conversation."""
    intended_ns: int = NONE
    sent_ns: int = NONE
    """Time of the first send attempt."""
    resent: Resend | None = None
    """Reason for a second send: the kept connection of the first ended in this way."""


class RequestFactory:
    """Makes requests. Raises InputError at the start if the tokenizer or dataset cannot be read."""

    def __init__(
        self, spec: LoadSpec, dialect: Dialect, text_cost: TextCost | None = None, *, wire: bool = True
    ) -> None:
        self.spec = spec
        self.wire = wire
        self.plan = spec.requests
        self.dialect = dialect
        self.cost = text_cost or NO_COST
        self.key = Key(spec.run_id, spec.cell_id, spec.repeat, spec.seed)
        self.is_chat = self.plan.resolved_api == "chat"
        self.head = bodies.head_template(
            spec.target, baseurl.parse(spec.target.base_url), is_chat=self.is_chat
        )
        self.words: Vocabulary = vocabulary(spec.target)
        self.name = self.key.digest("name", 0, 4).hex()
        self.notes: list[str] = []
        """Notes on the files for the user, before the load."""
        self.times_ns: list[int] = []
        """Arrival time of each request of a trace, after the first."""
        self.conversations = self._conversations()
        size = len(self.words.words if self.is_chat else self.words.ids)
        self.size = size
        longest = self._longest()
        self.rest = prompts.filler(size, max(longest, prompts.UNIQUE_TOKENS), self.key)
        self.common = prompts.common_indices(
            size, prompts.shared_length(self.plan.shared_prefix_ratio, longest), self.key
        )

    def _conversations(self) -> list[tuple[Turn, ...]]:
        shape, dataset, vocab_size = self.spec.shape, self.plan.dataset, self.spec.target.vocab_size
        if isinstance(shape, Trace):
            path = shape.path
            arrivals = datasets.trace(
                path,
                shape.unit,
                skip_bad=shape.skip_bad,
                vocab_size=vocab_size,
                guess=False,
                speed=shape.speed,
                take_note=self.notes.append,
            )
            self.times_ns = [arrival.at_ns for arrival in arrivals]
            conversations: list[tuple[Turn, ...]] = [(arrival.turn,) for arrival in arrivals]
        elif dataset is not None:
            path = dataset.path
            conversations = datasets.conversations(
                path,
                dataset.shape,
                multi_turn=dataset.multi_turn,
                skip_bad=dataset.skip_bad,
                vocab_size=vocab_size,
                take_note=self.notes.append,
            )
        else:
            return []
        self._check_turns(path, conversations)
        if isinstance(shape, Trace):
            return conversations
        # Each repeat begins at another place in the file, in another order.
        order = self.key.generator("order", 0).permutation(len(conversations))
        return [conversations[index] for index in order.tolist()]

    def _check_turns(self, path: str, conversations: list[tuple[Turn, ...]]) -> None:
        """Refuse prompts that this API cannot send, and note unknown lengths."""
        turns = [turn for conversation in conversations for turn in conversation]
        if self.is_chat and any(turn.ids is not None for turn in turns):
            raise InputError(
                "a prompt of token ids cannot be sent to the chat API", where=path, fix="set api: completions"
            )
        uncounted = sum(turn.osl is None and turn.answer is not None for turn in turns)
        if uncounted and self.words.tokenizer is None:
            self.notes.append(
                f"{path}: without a tokenizer (--tokenizer), the lengths of {uncounted} recorded answers are unknown; "
                "the requests for these answers use the `osl` of the workload"
            )

    def _longest(self) -> int:
        """Maximum tokens of a synthetic prompt."""
        isl = self.plan.isl
        bound = isl.high or (isl.mean * 2 if isl.kind == "uniform" else isl.mean)
        if isl.kind == "lognormal" and isl.high is None:
            bound = isl.mean * prompts.LONGEST_TAIL
        return max([bound, *(turn.isl or 0 for conversation in self.conversations for turn in conversation)])

    def make(self, number: int, user: int, first_share: float = 1.0) -> Request:
        """Request `number` of the cell, the first turn of its conversation.

        `first_share` below 1 shortens the answer, so that users that start together spread out.
        """
        if not self.conversations:
            return self._make(number, user, Turn(), first_share=first_share)
        turns = self.conversations[number % len(self.conversations)]
        return self._make(number, user, turns[0], rest=turns[1:], first_share=first_share)

    def next_turn(self, number: int, before: Request) -> Request:
        """The next turn of a conversation, under a new number."""
        return self._make(
            number,
            before.user,
            before.rest[0],
            turn=before.turn + 1,
            conversation=before.conversation,
            rest=before.rest[1:],
        )

    def probe(self, words: int, dialect: Dialect, number: int, tokens: int) -> tuple[bytes, int]:
        """(payload, text tokens or NONE) of a short request that tests which fields the server accepts."""
        chosen = self._own(number, words)
        base = bodies.base_body(self.plan, dialect, self.spec.target.model, tokens)
        if self.is_chat:
            text = prompts.text(self.words.words, chosen)
            body, isl = bodies.chat(base, [("user", text)]), NONE
        else:
            body, isl = bodies.completion(base, self.words.ids[chosen]), words
        return (
            bodies.http_request(self.head, f"rb-{self.name}-probe{number}", body) if self.wire else body
        ), isl

    def again(self, request: Request) -> bytes:
        """The payload of a request whose bytes were already dropped."""
        source, rest = Turn(), request.rest
        if self.conversations:
            turns = self.conversations[request.conversation % len(self.conversations)]
            source = turns[request.turn]
        number, user, osl = request.request_id, request.user, request.osl_asked
        return self._make(
            number, user, source, turn=request.turn, conversation=request.conversation, rest=rest, osl=osl
        ).payload

    def _make(
        self,
        number: int,
        user: int,
        source: Turn,
        *,
        turn: int = 0,
        conversation: int | None = None,
        rest: tuple[Turn, ...] = (),
        first_share: float = 1.0,
        osl: int | None = None,
    ) -> Request:
        conversation = number if conversation is None else conversation
        prompt = number % self.plan.prompt_pool if self.plan.prompt_pool else number
        osl = osl or max(1, round(self._answer_length(source, number) * first_share))
        base = bodies.base_body(self.plan, self.dialect, self.spec.target.model, osl)
        if source.messages or source.ids is not None:
            body, isl = self._recorded(number, conversation, source, base)
        else:
            isl = source.isl or prompts.length(self.plan.isl, self.key, "isl", prompt)
            body, isl = self._synthetic(prompt, isl, base)
        images = self.plan.images.count if self.plan.images and self.is_chat else 0
        name = f"rb-{self.name}-{number}"
        return Request(
            request_id=number,
            user=user,
            turn=turn,
            isl_asked=isl,
            osl_asked=osl,
            images=images,
            text_tokens=isl if isl != NONE or not images else self._text_tokens(prompt),
            name=name,
            payload=bodies.http_request(self.head, name, body) if self.wire else body,
            conversation=conversation,
            rest=rest,
        )

    # --- synthetic prompts

    def _synthetic(self, number: int, isl: int, base: dict[str, object]) -> tuple[bytes, int]:
        if not self.is_chat:
            return bodies.completion(base, self.words.ids[self._chosen(number, isl)]), isl
        count = self._word_count(isl)
        content = prompts.text(self.words.words, self._chosen(number, count))
        exact = self.cost.exact and round(count * self.cost.per_word + self.cost.overhead) == isl
        body = bodies.chat(base, [("user", content)], self._images(number))
        return body, isl if exact else NONE

    def _chosen(self, number: int, size: int) -> prompts.IndexArray:
        shared = prompts.shared_length(self.plan.shared_prefix_ratio, size)
        own = self._own(number, size - shared)
        return np.concatenate([self.common[:shared], own]) if shared else own

    def _own(self, number: int, size: int) -> prompts.IndexArray:
        return prompts.indices(self.size, size, self.key, number, self.rest)

    def _word_count(self, isl: int) -> int:
        return max(1, round((isl - self.cost.overhead) / self.cost.per_word))

    def _text_tokens(self, number: int) -> int:
        """Estimate of the text's tokens if the probe found the cost of words, else NONE."""
        if self.cost is NO_COST or self.conversations:
            return NONE
        count = self._word_count(prompts.length(self.plan.isl, self.key, "isl", number))
        return round(count * self.cost.per_word + self.cost.overhead)

    def _images(self, number: int) -> list[str]:
        if self.plan.images is None:
            return []
        return [
            data_url(self.plan.images, self.key, number, index) for index in range(self.plan.images.count)
        ]

    # --- prompts from files

    def _recorded(
        self, number: int, conversation: int, source: Turn, base: dict[str, object]
    ) -> tuple[bytes, int]:
        unique = self.plan.shared_prefix_ratio == 0
        if source.ids is not None:
            ids = [*self._nonce_ids(number), *source.ids] if unique else list(source.ids)
            return bodies.completion(base, ids), len(ids)
        messages = list(source.messages)
        if self.is_chat:
            if unique:
                # All turns of a conversation have the same words: a turn may share its own past.
                nonce = self._nonce_words(conversation)
                messages[0] = (messages[0][0], f"{nonce}\n{messages[0][1]}")
            return bodies.chat(base, messages, self._images(number)), NONE
        text = "\n".join(content for _, content in messages)
        encoded = self.words.encode(text)
        if encoded is None:
            return bodies.completion(base, self._nonce_words(number) + "\n" + text if unique else text), NONE
        ids = [*self._nonce_ids(number), *encoded] if unique else encoded
        return bodies.completion(base, ids), len(ids)

    def _nonce_ids(self, number: int) -> list[int]:
        chosen = self._own(number, prompts.UNIQUE_TOKENS)
        return [int(token) for token in self.words.ids[chosen]]

    def _nonce_words(self, number: int) -> str:
        chosen = self._own(number, prompts.UNIQUE_TOKENS) % len(self.words.words)
        return prompts.text(self.words.words, chosen).strip()

    def _answer_length(self, source: Turn, number: int) -> int:
        """The length recorded with the prompt, else the length of the recorded answer, else the plan's."""
        if source.osl is not None:
            return source.osl
        encoded = self.words.encode(source.answer) if source.answer is not None else None
        return len(encoded) if encoded else prompts.length(self.plan.osl, self.key, "osl", number)
