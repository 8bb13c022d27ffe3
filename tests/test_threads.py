"""Several threads, forks, torch in the same process, cancelling and interrupting."""

import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypervl_engine import CancelledError, _testing, load, machine
from hypervl_engine.machine import usable_cores

# Newer Pythons warn of forking a process with threads, which is what is tested here.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
PROMPTS = ["what is it?", "hello", "how many shapes?", "count to ten, please", "x"]


def answers(engine, picture, **options):
    return [engine.generate(picture, prompt, max_new_tokens=8, **options).tokens for prompt in PROMPTS]


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_the_same_bits_for_any_number_of_threads(tiny, engine, picture, threads):
    other = load(tiny, threads=threads, progress=False)
    for branch in engine.branches:
        np.testing.assert_array_equal(other.encode(picture, branch, 1.0), engine.encode(picture, branch, 1.0))
    mine, theirs = (
        [e.generate(picture, p, max_new_tokens=8, scale=1.0) for p in PROMPTS[:2]] for e in (engine, other)
    )
    assert [r.tokens for r in mine] == [r.tokens for r in theirs]
    assert [r.logprobs for r in mine] == [r.logprobs for r in theirs]


@pytest.mark.parametrize("threads", [1, 2, 3, 7])
@pytest.mark.parametrize("units", [0, 1, 2, 5, 40, 200])
def test_no_two_chunks_run_under_one_thread_index(threads, units):
    jobs = 200
    result = _testing.run_jobs(threads, units, jobs)
    assert result["times"] == [jobs] * units
    assert result["clashes"] == result["outside"] == 0
    assert all(n <= 1 for n in result["system_threads"])
    assert sum(result["system_threads"]) >= min(units, 1)


def test_several_threads_share_the_work():
    assert sum(_testing.run_jobs(3, 300, 2000)["system_threads"]) > 1


def test_concurrent_calls_do_not_disturb_each_other(engine, picture):
    expected = answers(engine, picture)
    with ThreadPoolExecutor(4) as pool:
        for got in pool.map(lambda _: answers(engine, picture), range(8)):
            assert got == expected


def test_concurrent_kinds_of_calls(engine, picture):
    expected = (answers(engine, picture), engine.score(picture, "a", "bc").logprobs, engine.encode(picture).tobytes())

    def chat(_):
        talk = engine.chat(max_new_tokens=4)
        return [talk.ask("a", picture).tokens, talk.ask("b").tokens]

    with ThreadPoolExecutor(4) as pool:
        chats = [pool.submit(chat, n) for n in range(2)]
        scores = [pool.submit(lambda: engine.score(picture, "a", "bc").logprobs) for _ in range(2)]
        encodings = [pool.submit(lambda: engine.encode(picture).tobytes()) for _ in range(2)]
        texts = [pool.submit(answers, engine, picture) for _ in range(2)]
        assert {str(f.result()) for f in chats} == {str(chat(0))}
        assert [f.result() for f in scores] == [expected[1]] * 2
        assert [f.result() for f in encodings] == [expected[2]] * 2
        assert [f.result() for f in texts] == [expected[0]] * 2


def test_streams_side_by_side_in_one_thread(engine, picture):
    expected = [engine.generate(picture, p, max_new_tokens=8).text for p in PROMPTS]
    streams = [engine.stream(picture, p, max_new_tokens=8) for p in PROMPTS]
    texts = [""] * len(streams)
    running = list(range(len(streams)))
    while running:
        for n in list(running):
            piece = next(streams[n], None)
            if piece is None:
                running.remove(n)
            else:
                texts[n] += piece
    assert texts == expected


def test_fork(engine, picture):
    expected = answers(engine, picture)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            signal.alarm(120)
            os.write(write, str(answers(engine, picture)).encode())
            status = 0
        finally:
            os._exit(status)
    os.close(write)
    with os.fdopen(read) as pipe:
        got = pipe.read()
    assert os.waitpid(child, 0)[1] == 0
    assert got == str(expected)
    assert answers(engine, picture) == expected


def test_fork_while_another_thread_generates(engine, picture):
    expected = engine.generate(picture, "hello", max_new_tokens=4).tokens
    going = threading.Event()
    stop = threading.Event()

    def busy():
        while not stop.is_set():
            engine.generate(picture, "hello", max_new_tokens=4)
            going.set()

    thread = threading.Thread(target=busy)
    thread.start()
    try:
        going.wait(60)
        for _ in range(3):
            child = os.fork()
            if child == 0:
                signal.alarm(120)
                good = engine.generate(picture, "hello", max_new_tokens=4).tokens == expected
                os._exit(0 if good else 1)
            assert os.waitpid(child, 0)[1] == 0
    finally:
        stop.set()
        thread.join()


def test_torch_in_the_same_process(engine, picture):
    import torch
    expected = answers(engine, picture)
    weights = torch.ones(300, 300)
    stop = threading.Event()

    def multiply():
        while not stop.is_set():
            (weights @ weights).sum().item()

    thread = threading.Thread(target=multiply)
    thread.start()
    try:
        assert answers(engine, torch.from_numpy(picture).permute(2, 0, 1)) == expected
    finally:
        stop.set()
        thread.join()
    assert float((weights @ weights)[0, 0]) == 300.0


def long_call(engine, **options):
    """A call that would take minutes: many long answers of a random model."""
    image = np.zeros((1024, 1024, 3), np.uint8)
    while True:
        engine.generate(image, "hello", scale=1.0, max_new_tokens=2000, **options)


def test_cancel_from_another_thread(engine, picture):
    expected = answers(engine, picture)
    for delay in (0.0, 0.003, 0.05, 0.2):
        with ThreadPoolExecutor(1) as pool:
            call = pool.submit(long_call, engine)
            time.sleep(delay)
            start = time.perf_counter()
            while not call.done() and time.perf_counter() - start < 30:
                engine.cancel()  # repeated: the thread may be between two calls, or not have begun
                time.sleep(0.001)
            with pytest.raises(CancelledError):
                call.result(30)
            assert time.perf_counter() - start < 5
    assert answers(engine, picture) == expected


def test_cancel_of_one_stream_leaves_others(engine, picture):
    one, other = (engine.stream(picture, "hello", max_new_tokens=8) for _ in range(2))
    next(one)
    one.cancel()
    with pytest.raises(CancelledError):
        list(one)
    assert "".join(other) == engine.generate(picture, "hello", max_new_tokens=8).text
    one.cancel()  # too late: does nothing
    assert engine.generate(picture, "hello", max_new_tokens=8).tokens == other.result.tokens


@pytest.fixture
def interruptible():
    """Ctrl-C raises KeyboardInterrupt, also where the tests were started with SIGINT ignored (in a shell's background)."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


# Python drops an exception that a signal raises within a weak reference's callback: then the second Ctrl-C counts.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("what", ["generate", "encode", "prefill"])
def test_keyboard_interrupt(engine, picture, interruptible, what):
    expected = answers(engine, picture)
    image = np.zeros((2048, 2048, 3), np.uint8)
    session = engine.new_session()
    ids = np.ones(engine.context_length - 1, np.int32)

    def work():
        while time.perf_counter() - start < 60:
            if what == "generate":
                engine.generate(picture, "hello", max_new_tokens=2000)
            elif what == "encode":
                engine.encode(image, "large", 1.0)
            else:
                session.reset()
                session.prefill(ids)

    caught = threading.Event()

    def press() -> None:
        wait = 0.3
        while not caught.wait(wait):
            os.kill(os.getpid(), signal.SIGINT)
            wait = 2.0

    presser = threading.Thread(target=press)
    presser.start()
    start = time.perf_counter()
    with pytest.raises(KeyboardInterrupt):
        work()
    caught.set()
    assert time.perf_counter() - start < 5
    presser.join()
    assert answers(engine, picture) == expected


def cpu_lists():
    """Of every thread of this process: the processors it may run on."""
    lists = {}
    for task in os.listdir("/proc/self/task"):
        with open(f"/proc/self/task/{task}/status") as status:
            lists[int(task)] = next(line.split()[1] for line in status if line.startswith("Cpus_allowed_list"))
    return lists


def test_pinned_threads(tiny, engine, picture):
    expected = answers(engine, picture)
    cores = machine.core_cpus()
    with pytest.raises(ValueError, match=f"pin_threads: {len(cores) + 1} threads, but this process may use {len(cores)} physical cores"):
        load(tiny, threads=len(cores) + 1, pin_threads=True, progress=False)
    pinned = load(tiny, threads=len(cores), pin_threads=True, progress=False)
    assert pinned.info()["pinned_cpus"] == cores
    assert engine.info()["pinned_cpus"] == []
    before = cpu_lists()
    assert answers(pinned, picture) == expected
    after = cpu_lists()
    assert {task: after[task] for task in before if task in after} == {task: cpus for task, cpus in before.items() if task in after}
    assert sorted(after[task] for task in after if task not in before) == sorted(str(cpu) for cpu in cores[1:])


def test_a_processor_that_is_not_there_is_refused():
    with pytest.raises(RuntimeError, match="cannot be bound to processor 100000"):
        _testing.run_jobs(2, 10, 1, cpus=[0, 100000])
    with pytest.raises(RuntimeError, match="expected a processor for each"):
        _testing.run_jobs(2, 10, 1, cpus=[0])


def busy_seconds(seconds):
    """Processor time that this process takes while its main thread sleeps."""
    time.sleep(0.05)  # whoever spins may do so for some microseconds
    start = time.process_time()
    time.sleep(seconds)
    return time.process_time() - start


def test_an_idle_engine_leaves_the_processors_alone(engine, picture):
    chat = engine.chat(max_new_tokens=4)
    chat.ask("hello", picture)
    answers(engine, picture)
    assert min(busy_seconds(0.2) for _ in range(3)) < 0.02
    chat.close()


def test_torch_and_the_engine_take_turns(engine, picture):
    """Neither's threads stand in the other's way: in turns each is about as fast as alone. What else runs on the machine may spoil one
    comparison; threads in the way spoil all of them."""
    import torch

    weights = torch.ones(400, 400)

    def multiply():
        for _ in range(20):
            torch.mm(weights, weights)

    def answer():
        engine.generate(picture, "hello", max_new_tokens=16)

    def best(work, before=lambda: None):
        times = []
        for _ in range(12):
            before()
            start = time.perf_counter()
            work()
            times.append(time.perf_counter() - start)
        return min(times)

    threads = torch.get_num_threads()
    multiply()
    answer()
    assert any(best(answer, multiply) < 2 * best(answer) for _ in range(4))
    assert any(best(multiply, answer) < 2 * best(multiply) for _ in range(4))
    assert torch.get_num_threads() == threads


def test_threads_default_to_the_cores_of_this_process(tmp_path, monkeypatch):
    cpus = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cpus[:1])
    try:
        assert usable_cores() == 1
    finally:
        os.sched_setaffinity(0, cpus)
    assert 1 <= usable_cores() <= len(cpus)
    monkeypatch.setattr(machine, "_cgroup_folders", lambda: [tmp_path])
    monkeypatch.setattr(machine, "_core_of", str)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)))
    assert usable_cores() == 16
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert usable_cores() == 16
    (tmp_path / "cpu.max").write_text("250000 100000\n")
    assert usable_cores() == 3
    (tmp_path / "cpu.cfs_quota_us").write_text("50000\n")
    (tmp_path / "cpu.cfs_period_us").write_text("100000\n")
    assert usable_cores() == 1
