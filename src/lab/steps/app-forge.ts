/** Frames as an attacker makes them: right in every checksum, wrong in who sends them. Pure. */
import type { Place } from '../app-lab.ts';

export interface Forged {
  /** Whose addresses it bears. */
  readonly from: Pick<Place, 'mac' | 'address'>;
  readonly to: Pick<Place, 'mac' | 'address'>;
  readonly port: number;
  readonly payload: string;
}

/** An Ethernet frame with a UDP datagram over IPv4. */
export function forgedFrame({ from, to, port, payload }: Forged): Buffer {
  const data = Buffer.from(payload);
  const udp = Buffer.alloc(8 + data.length);
  udp.writeUInt16BE(port, 0);
  udp.writeUInt16BE(port, 2);
  udp.writeUInt16BE(udp.length, 4);
  // A checksum of 0 is none, which IPv4 allows.
  data.copy(udp, 8);
  const ip = Buffer.alloc(20);
  ip.writeUInt8(0x45, 0);
  ip.writeUInt16BE(ip.length + udp.length, 2);
  ip.writeUInt8(64, 8);
  ip.writeUInt8(17, 9);
  octets(from.address).copy(ip, 12);
  octets(to.address).copy(ip, 16);
  ip.writeUInt16BE(checksum(ip), 10);
  const type = Buffer.from([0x08, 0x00]);
  return Buffer.concat([hardware(to.mac), hardware(from.mac), type, ip, udp]);
}

/** RFC 7348, section 5. */
export function vxlan(vni: number, frame: Buffer): Buffer {
  const head = Buffer.alloc(8);
  head.writeUInt8(0x08, 0);
  head.writeUIntBE(vni, 4, 3);
  return Buffer.concat([head, frame]);
}

function octets(address: string): Buffer {
  return Buffer.from(address.split('.').map(Number));
}

function hardware(mac: string): Buffer {
  return Buffer.from(mac.replaceAll(':', ''), 'hex');
}

function checksum(header: Buffer): number {
  let sum = 0;
  for (let at = 0; at < header.length; at += 2) sum += header.readUInt16BE(at);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}
