# SPDX-License-Identifier: Apache-2.0
"""The official OpenAI client, unmodified, with the demo model."""
import asyncio

import openai
import pytest
from conftest import ROOT, Served

MESSAGES = [{"role": "user", "content": "Once upon a time"}]
GREEDY = {"model": "model", "temperature": 0, "max_tokens": 16}


@pytest.fixture(scope="module")
def base_url(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRIREME_CACHE", str(tmp_path_factory.mktemp("cache")))
        server = Served(str(tmp_path_factory.mktemp("empty")), str(ROOT / "models" / "demo"))
    yield f"http://{server.http}/v1"
    assert server.stop() == 0


@pytest.fixture
def client(base_url):
    with openai.OpenAI(base_url=base_url, api_key="any", max_retries=0) as made:
        yield made


def test_models(client):
    assert "model" in [model.id for model in client.models.list()]
    assert client.models.retrieve("model").object == "model"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("nobody")


def test_chat_whole_and_streamed(client):
    whole = client.chat.completions.create(messages=MESSAGES, **GREEDY)
    assert whole.choices[0].finish_reason == "length"
    assert whole.usage.completion_tokens == 16
    text = ""
    usage = None
    for chunk in client.chat.completions.create(messages=MESSAGES, stream=True,
                                                stream_options={"include_usage": True}, **GREEDY):
        usage = chunk.usage or usage
        text += "".join(choice.delta.content or "" for choice in chunk.choices)
    assert text == whole.choices[0].message.content
    assert usage == whole.usage


def test_chat_stream_helper_and_logprobs(client):
    with client.chat.completions.stream(messages=MESSAGES, logprobs=True, top_logprobs=2,
                                        model="model", temperature=0, stop=".") as stream:
        choice = stream.get_final_completion().choices[0]
    assert choice.finish_reason == "stop"
    assert choice.message.content
    tokens = choice.logprobs.content
    # The stop string has a token and no text.
    assert "".join(token.token for token in tokens) == choice.message.content + "."
    assert all(token.top_logprobs[0].token == token.token for token in tokens)


def test_completions(client):
    whole = client.completions.create(prompt=["Tom had a ball", "The old dog"], n=2, logprobs=1,
                                      seed=3, model="model", max_tokens=8)
    assert [choice.index for choice in whole.choices] == [0, 1, 2, 3]
    assert all(len(choice.logprobs.tokens) == 8 for choice in whole.choices)
    stop = client.completions.create(prompt="The old dog", stop=["."], echo=True, **GREEDY)
    assert stop.choices[0].text.startswith("The old dog")


def test_errors_name_the_field(client):
    with pytest.raises(openai.BadRequestError) as raised:
        client.chat.completions.create(messages=MESSAGES, response_format={"type": "json_object"},
                                       **GREEDY)
    assert raised.value.param == "response_format"
    with pytest.raises(openai.NotFoundError) as raised:
        client.chat.completions.create(messages=MESSAGES, model="nobody")
    assert raised.value.code == "model_not_found"


def test_many_at_once(base_url):
    async def ask():
        async with openai.AsyncOpenAI(base_url=base_url, api_key="any") as made:
            return await asyncio.gather(*[
                made.chat.completions.create(messages=MESSAGES, **GREEDY) for _ in range(16)])

    texts = {reply.choices[0].message.content for reply in asyncio.run(ask())}
    assert len(texts) == 1
