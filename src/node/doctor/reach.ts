/** Whether the tower is reached from here, over UDP and over TCP. */
import { remedyOf } from '../../base/errors.ts';
import type { Endpoint } from '../../enroll/wire.ts';
import { probeTower, type Reach } from '../tower-probe.ts';
import { type Check, type Finding, fault, ok, warning } from './finding.ts';

/** `tower` null: this host is the tower, and its daemon does not run. */
export function reachCheck(tower: Endpoint | null, wait_ms: number): Check {
  return {
    name: 'reach',
    run: async () => {
      if (tower === null) return [ok('reach', 'not tried: the tower of this host does not run', 'a tower that answers while it runs')];
      const { quic, tcp } = await probeTower(tower, wait_ms);
      return [overTcp(tower, tcp), overUdp(tower, quic, tcp.passes)];
    },
  };
}

function overTcp({ host, tcp }: Endpoint, reach: Reach): Finding {
  const expected = 'a handshake with the tower over TCP';
  if (reach.passes) return passed('reach tcp', `${host}, TCP port ${tcp}`, reach, expected);
  return fault('reach tcp', `TCP port ${tcp} of ${host}: ${reach.why} [${reach.code}]`, expected, remedyOf('network_unreachable', undefined));
}

function overUdp({ host, udp }: Endpoint, reach: Reach, overTcpToo: boolean): Finding {
  const expected = 'a handshake with the tower over QUIC';
  if (udp === null) return ok('reach udp', 'the tower offers no QUIC', expected);
  if (reach.passes) return passed('reach udp', `${host}, UDP port ${udp}`, reach, expected);
  const found = `UDP port ${udp} of ${host}: ${reach.why} [${reach.code}]`;
  if (!overTcpToo) return fault('reach udp', found, expected, remedyOf('network_unreachable', undefined));
  return warning('reach udp', `${found}; channels go over TCP`, expected, `Let UDP pass from this host to port ${udp} of the tower, in both directions.`);
}

function passed(check: string, where: string, { ms }: Reach, expected: string): Finding {
  return ok(check, `${where} answers, handshake in ${(ms ?? 0).toFixed(1)} ms`, expected);
}
