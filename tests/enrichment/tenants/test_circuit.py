from prometheus_client import REGISTRY

from sms_foundation.enrichment.tenants.circuit import Circuit


def opened(time) -> Circuit:
    circuit = Circuit(threshold=3, cooldown_s=4, timing=time.timing)
    for _ in range(3):
        assert circuit.admit()
        circuit.record(is_success=False)
    return circuit


class TestCircuit:
    def test_opens_after_failures_in_a_row(self, time) -> None:
        circuit = opened(time)

        assert circuit.is_open
        assert not circuit.admit()
        assert REGISTRY.get_sample_value("sms_tenant_circuit_open") == 1

    def test_a_success_in_between_starts_the_count_anew(self, time) -> None:
        circuit = Circuit(threshold=2, timing=time.timing)
        for is_success in (False, True, False):
            circuit.admit()
            circuit.record(is_success=is_success)

        assert circuit.admit()

    def test_one_probe_after_the_cooldown(self, time) -> None:
        circuit = opened(time)

        time.advance(3.9)
        assert not circuit.admit()
        time.advance(0.1)
        assert circuit.admit()
        assert not circuit.admit(), "everyone else waits for the probe"
        assert circuit.is_open

    def test_successful_probe_closes_it(self, time) -> None:
        circuit = opened(time)
        time.advance(4)
        circuit.admit()
        circuit.record(is_success=True)

        assert not circuit.is_open
        assert circuit.admit()
        assert REGISTRY.get_sample_value("sms_tenant_circuit_open") == 0

    def test_failed_probe_starts_another_cooldown(self, time) -> None:
        circuit = opened(time)
        time.advance(4)
        circuit.admit()
        circuit.record(is_success=False)

        time.advance(3.9)
        assert not circuit.admit()
        time.advance(0.1)
        assert circuit.admit()

    def test_latecomers_do_not_prolong_the_cooldown(self, time) -> None:
        circuit = opened(time)
        time.advance(3.9)
        circuit.record(is_success=False)

        time.advance(0.1)
        assert circuit.admit()

    def test_late_success_closes_it(self, time) -> None:
        circuit = opened(time)
        circuit.record(is_success=True)

        assert circuit.admit()

    def test_refused_callers_come_back_after_the_probe(self, time) -> None:
        circuit = opened(time)

        assert circuit.retry_after_s() == 6, "the cool-down, and the middle of another"
        time.advance(10)
        assert circuit.retry_after_s() == 2
