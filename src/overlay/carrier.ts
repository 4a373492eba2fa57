/**
 * The seam to whatever carries sealed packets between two hosts where UDP does not get through: it joins the tunnel's carry socket (native/tunnel/control) to a flow of
 * class `vpn_packet`. Packets never pass through JavaScript, so what stands behind this seam only starts and ends a splice.
 */

export interface PacketCarrier {
  /** Whether packets could be carried to this node now. */
  canCarry(node: string): boolean;
  /** Carries until the returned way is closed or its channel is lost; a carrier that lost it takes it up again by itself. */
  carry(node: string, carrySocketPath: string): CarriedWay;
}

export interface CarriedWay {
  close(): void;
}
