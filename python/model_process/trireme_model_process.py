# SPDX-License-Identifier: Apache-2.0
"""Runs one instance of a user's model.py for the server on the other end of descriptor 3.

The main thread executes; one thread receives; one does what finalizers leave behind; coroutines of
models with `async def execute` share a loop on another. When the server goes away, so does this.
"""
import asyncio
import importlib.util
import inspect
import itertools
import json
import os
import queue
import socket
import sys
import threading
import traceback
import weakref

import trireme_wire

SERVER_FD = 3
PROTOCOL = 1


class Connection:
    """The server, as triton_python_backend_utils and this file use it."""

    def __init__(self, channel):
        self.channel = channel
        self.may_call = False
        self.version_dir = ""
        self.make_request = None  # (row, blob) -> InferenceRequest, once the model is there
        self.on_is_ready = None
        self.work = queue.SimpleQueue()
        self._chores = queue.SimpleQueue()
        self._numbers = itertools.count(1)
        self._calls = {}                               # number -> _Call, or a queue of `ask`
        self._answers = weakref.WeakValueDictionary()  # number -> _Answer that may be cancelled

    def start_threads(self):
        threading.Thread(target=self._receive, name="receive", daemon=True).start()
        threading.Thread(target=self._do_chores, name="chores", daemon=True).start()

    # For finalizers, which may run on any thread in the middle of anything.

    def later(self, function, *arguments):
        self._chores.put((function, arguments))

    def _do_chores(self):
        while True:
            function, arguments = self._chores.get()
            try:
                function(*arguments)
            except Exception:  # pylint: disable=broad-except
                traceback.print_exc()

    def abandon(self, request, count):
        """The model dropped everything it could answer the request with."""
        message = {"type": "response", "request": request, "final": True, "empty": True,
                   "outputs": []}
        if count == 0:
            message.update(empty=False, code=1, error="the model dropped the request without "
                           "answering it")
        self.channel.send(message)

    # Calls of other models.

    def add_call(self, call):
        number = next(self._numbers)
        self._calls[number] = call
        return number

    def drop_call(self, number):
        if self._calls.pop(number, None) is not None:
            self.channel.send({"type": "infer_cancel", "call": number})

    def ask(self, message):
        replies = queue.SimpleQueue()
        message["call"] = self.add_call(replies)
        self.channel.send(message)
        return replies.get()

    # Receiving.

    def _receive(self):
        try:
            while True:
                received = self.channel.receive()
                if received is None:
                    os._exit(0)
                self._handle(*received)
                del received
                self.channel.flush_released()
        except BaseException:  # pylint: disable=broad-except
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)

    def _handle(self, message, blob):
        kind = message["type"]
        if kind == "infer_response":
            number = message["call"]
            call = self._calls.pop(number, None) if message["final"] else self._calls.get(number)
            if call is not None:
                call.on_response(message, blob)
        elif kind == "reply":
            replies = self._calls.pop(message["call"], None)
            if replies is not None:
                replies.put(message)
        elif kind == "cancel":
            answer = self._answers.get(message["request"])
            if answer is not None:
                answer.cancelled = True
        elif kind == "is_ready":
            threading.Thread(target=self.on_is_ready, args=(message["call"],), daemon=True).start()
        elif kind == "execute":
            # Made here, so that a request can be cancelled before its turn has come.
            requests = [self.make_request(row, blob) for row in message["requests"]]
            for request in requests:
                self._answers[request._answer.number] = request._answer
            self.work.put((message, requests))
        else:
            self.work.put((message, None))


class Host:
    """The user's model and the messages about it."""

    def __init__(self, connection, utils):
        self._connection = connection
        self._send = connection.channel.send
        self._utils = utils
        self._model = None
        self._decoupled = False
        self._loop = None  # of `async def execute`, made when first needed
        connection.on_is_ready = self._on_is_ready

    def run(self):
        message, _ = self._connection.work.get()
        if message["protocol"] != PROTOCOL:
            return self._failed(f"the server speaks protocol {message['protocol']} and this "
                                f"model process {PROTOCOL}: one of them is of another version")
        try:
            model_class = self._import(message)
            if message["mode"] == "complete":
                return self._complete(model_class, message)
            self._model = model_class()
            if hasattr(self._model, "initialize"):
                self._model.initialize(message["arguments"])
        except BaseException:  # pylint: disable=broad-except
            return self._failed(_traceback())
        self._decoupled = message["decoupled"]
        self._connection.make_request = lambda row, blob: self._utils.InferenceRequest._of(
            row, blob, self._decoupled)
        self._connection.may_call = True
        self._send({"type": "started", "has_is_ready": hasattr(self._model, "is_ready")})
        return self._serve()

    def _failed(self, text):
        self._send({"type": "failed", "text": text})

    def _import(self, message):
        path = message["model_path"]
        version_dir, model_dir = message["version_dir"], message["model_dir"]
        self._connection.version_dir = version_dir
        for folder in (model_dir, version_dir, os.path.dirname(path)):
            if folder and folder not in sys.path:
                sys.path.insert(0, folder)
        name = f"{os.path.basename(version_dir)}.{os.path.splitext(os.path.basename(path))[0]}"
        spec = importlib.util.spec_from_file_location(name, path)
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
        if not hasattr(module, "TritonPythonModel"):
            raise AttributeError(f"{path} has no class TritonPythonModel")
        if not hasattr(module.TritonPythonModel, "execute"):
            raise AttributeError(f"the TritonPythonModel of {path} has no function execute")
        return module.TritonPythonModel

    def _complete(self, model_class, message):
        config = self._utils.ModelConfig(message["config"])
        if hasattr(model_class, "auto_complete_config"):
            config = model_class.auto_complete_config(config)
            if not isinstance(config, self._utils.ModelConfig):
                raise TypeError("auto_complete_config must return the model configuration it "
                                f"was given, not {type(config).__name__}")
        self._send({"type": "completed", "config": json.dumps(config.as_dict())})

    # Serving.

    def _serve(self):
        while True:
            message, requests = self._connection.work.get()
            if message["type"] == "finalize":
                return self._finalize()
            batch = message["batch"]
            del message
            self._execute(requests)
            del requests
            self._send({"type": "executed", "batch": batch})
            self._connection.channel.flush_released()

    def _execute(self, requests):
        answers = [request._answer for request in requests]
        try:
            result = self._model.execute(requests)
            if inspect.iscoroutine(result):
                self._execute_coroutine(result, answers)
            else:
                self._answer_all(result, answers)
        except BaseException as error:  # pylint: disable=broad-except
            self._fail_all(error, answers)

    def _execute_coroutine(self, coroutine, answers):
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            threading.Thread(target=self._loop.run_forever, name="loop", daemon=True).start()

        async def run():
            try:
                self._answer_all(await coroutine, answers)
            except BaseException as error:  # pylint: disable=broad-except
                self._fail_all(error, answers)
            answers.clear()

        future = asyncio.run_coroutine_threadsafe(run(), self._loop)
        if not self._decoupled:
            future.result()

    def _answer_all(self, responses, answers):
        """What `execute` returned goes out as the requests' responses."""
        if self._decoupled:
            if responses is not None:
                raise TypeError(
                    f"model '{self._model.__class__.__name__}' is using the decoupled mode and the "
                    "execute function must return None")
            return
        if responses is None:
            responses = [None] * len(answers)  # all through their response senders
        if not isinstance(responses, (list, tuple)):
            raise TypeError("Expected a list in the execute return, found type "
                            f"'{type(responses).__name__}'.")
        if len(responses) != len(answers):
            raise ValueError(
                f"Number of InferenceResponse objects do not match number of InferenceRequest "
                f"objects. InferenceRequest(s) size is:{len(answers)}, and InferenceResponse(s) "
                f"size is:{len(responses)}")
        for response in responses:
            if response is not None and not isinstance(response, self._utils.InferenceResponse):
                raise TypeError(
                    "Expected an 'InferenceResponse' object in the execute function return list, "
                    f"found type '{type(response).__name__}'.")
        for response, answer in zip(responses, answers):
            if response is not None:
                answer.send(response, True)

    def _fail_all(self, error, answers):
        text = f"message: {type(error).__name__}: {error}\n\nAt:\n{_traceback()}"
        for answer in answers:
            if not answer.closed:
                answer.fail(text)

    def _finalize(self):
        self._connection.may_call = False
        try:
            if hasattr(self._model, "finalize"):
                self._model.finalize()
        except BaseException:  # pylint: disable=broad-except
            traceback.print_exc()
        self._model = None
        self._send({"type": "finalized"})

    def _on_is_ready(self, number):
        try:
            ready = self._model.is_ready()
            if inspect.iscoroutine(ready):
                ready = asyncio.run(ready)
            if not isinstance(ready, bool):
                raise TypeError(f"is_ready must return a bool, not {type(ready).__name__}")
        except BaseException:  # pylint: disable=broad-except
            traceback.print_exc()
            ready = False
        self._send({"type": "is_ready", "call": number, "ready": ready})


def _traceback():
    """The traceback without this file's own frames."""
    kind, error, trace = sys.exc_info()
    while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    return "".join(traceback.format_exception(kind, error, trace))


def main():
    channel = trireme_wire.Channel(socket.socket(fileno=SERVER_FD))
    try:
        import triton_python_backend_utils as utils  # pylint: disable=import-outside-toplevel
    except ImportError as error:
        channel.send({"type": "failed", "text": f"{error}. The interpreter {sys.executable} needs "
                      f"numpy for models: {sys.executable} -m pip install numpy"})
        return
    connection = Connection(channel)
    utils._connection = connection
    connection.start_threads()
    Host(connection, utils).run()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # whatever threads the model left


if __name__ == "__main__":
    main()
