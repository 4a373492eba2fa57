/**
 * Every limit of the product, with its unit in the name. First what the wire format promises (a change is a new protocol
 * version), then what we chose, by room. A derived limit is written as its derivation.
 */
const KIB = 1024;
const MIB = 1024 * KIB;

export const limits = {
  // The wire format (docs/wire-format.md).
  frame_payload_bytes_max: 64 * KIB,
  frame_head_bytes_max: 64,
  hello_bytes_max: 8 * KIB,
  control_frame_bytes_max: 16 * KIB,
  service_name_bytes_max: 128,
  reason_bytes_max: 512,
  message_bytes_max: 1 * MIB,
  latest_frame_bytes_max: 4 * MIB,

  // Flows.
  flow_window_bytes_initial: 256 * KIB,
  flow_window_bytes_max: 16 * MIB,
  /** For what rate a window that begins wide is made: 1 Gbit/s. */
  flow_wide_bytes_per_ms: 125_000,
  flow_send_queue_bytes_max: 1 * MIB,
  /** What all flows of a channel may have of windows beyond their initial ones, each way. */
  channel_window_bytes_extra_max: 64 * MIB,
  flow_datagram_queue_bytes_max: 256 * KIB,
  /** What each queued piece counts beside its octets: an array of its own takes that much memory, also around nothing. */
  queued_piece_bytes_overhead: 256,
  flows_per_channel_max: 1024,
  resume_flows_per_frame_max: 512,
  flow_segments_out_of_order_max: 8192,
  receive_slab_bytes: 64 * KIB,
  receive_slabs_kept_max: 64,
  latest_flows_per_channel_max: 64,

  // Scheduler: frames are cut smaller the slower the path is.
  chunk_bytes_max: 64 * KIB,
  chunk_bytes_tcp_max: 16 * KIB,
  chunk_bytes_min: 1_300,
  session_unsent_bytes_min: 256 * KIB,
  session_unsent_bytes_max: 8 * MIB,

  // Sessions and the listener.
  handshake_ms_max: 5_000,
  pending_sessions_max: 1_024,
  pending_sessions_per_address_max: 64,
  sessions_max: 20_000,
  greetings_per_node_max: 4,
  sessions_per_channel_max: 4,
  certificate_chain_certs_max: 4,
  certificate_bytes_max: 8 * KIB,
  peer_name_bytes_max: 256,
  quic_streams_per_session_max: 2_048,
  datagram_bytes_max: 16 * KIB,
  quic_idle_ms_max: 30_000,
  quic_mtu_bytes_max: 8_952,
  quic_inbox_bytes_max: 1 * MIB,
  quic_datagram_queue_bytes_max: 256 * KIB,
  session_urgent_bytes_extra: 256 * KIB,
  session_linger_ms_max: 1_000,
  tcp_urgent_unsent_bytes_max: 64 * KIB,
  tcp_bulk_unsent_bytes_max: 256 * KIB,
  /** Of octets that came in on a connection and were not yet taken here; with so many, no more is read of it. */
  tcp_inbox_bytes_max: 256 * KIB,
  /** Less than this in such a time is a trickle; and nothing else for so long is a pause. */
  tcp_trickle_bytes_max: 16 * KIB,
  tcp_trickle_ms: 1_000,
  tcp_pause_ms: 3_000,

  // Dialing and reconnecting.
  quic_head_start_ms: 300,
  dial_ms_max: 8_000,
  dial_quic_ms_max: 2_500,
  dial_memory_destinations_max: 4_096,
  dial_endpoints_max: 16,
  dial_endpoint_stagger_ms: 250,
  upgrade_probe_jitter_ms_max: 250,
  backoff_ms_base: 250,
  backoff_ms_max: 30_000,
  upgrade_probe_ms: 2_500,
  upgrade_probe_ms_max: 60_000,
  upgrade_probe_fast_window_ms: 10 * 60_000,
  /** Lost sooner after it had come back, UDP flaps: its next way back begins so late, then twice as late, and so on. */
  udp_settled_ms: 60_000,
  udp_hold_ms_base: 5_000,
  udp_hold_ms_max: 5 * 60_000,
  carrier_ms_max: 60_000,
  /** Dials that failed in a row until it is reported: the wait has then reached its cap. */
  backoff_attempts_reported: 8,
  /** New channels that a host admits, unless configured; whoever comes beyond it is told when to come back. */
  admission_channels_per_s: 250,
  admission_burst: 50,
  /** No turn is promised further ahead. */
  admission_wait_ms_max: 60_000,
  admission_promises_max: 20_000,
  /** Of a promised turn: two clocks differ by so much over its wait, and so long it is kept. */
  admission_early_ms_max: 50,
  admission_late_ms_max: 30_000,
  path_silent_ms_min: 350,
  /** While a flow is under way, over a transport that acknowledges by itself. */
  path_silent_in_flow_ms_min: 200,

  // Heartbeats (spec 7.2), before jitter.
  /** Bulk that a governed session is handed before its turn: longer than the usual pause of an event loop. */
  pace_lead_ms: 10,
  heartbeat_ms_active: 7_000,
  heartbeat_ms_realtime: 4_000,
  /** Below `quic_idle_ms_max`, with its jitter. */
  heartbeat_ms_storage: 20_000,
  heartbeat_jitter_part: 0.2,
  /** Heartbeats of all channels leave at multiples of it. */
  heartbeat_tick_ms: 250,
  heartbeat_retry_ms: 1_000,
  heartbeat_retries_max: 3,
  heartbeat_unanswered_ms_max: 20_000,

  // Channels. Each is judged again so often, before jitter, and whenever what is known of its peer changes.
  revalidation_ms: 60_000,
  revalidation_jitter_part: 0.2,
  channels_max: 20_000,
  /** Draining: the longest deadline, what is taken without one, and what a daemon that is told to stop takes. */
  drain_ms_max: 24 * 3_600_000,
  drain_ms_default: 60_000,
  drain_stop_ms_default: 1_000,
  drain_look_ms: 50,
  /** After what is left was ended by force, for control messages to be acknowledged. */
  drain_flush_ms_max: 1_000,
  channel_directory_peers_max: 10_000,
  /** Of peer, class and service, kept until the rules change. */
  policy_decisions_max: 16_384,

  /** Without a session with the tower, until a node goes on without it (degraded mode). */
  tower_away_ms: 30_000,

  // The tower. A site's nodes and what each may say of its addresses are bounded so that a snapshot fits one message.
  tower_nodes_max: 10_000,
  site_nodes_max: 1_000,
  node_endpoints_max: 4,
  node_endpoints_bytes_max: 512,
  endpoint_host_chars_max: 253,
  /** Of all kinds together. */
  grants_max: 20_000,
  /** Authorities whose certificates enroll: each is tried for a stranger’s certificate. */
  x509_authorities_max: 32,
  grant_id_chars_max: 256,
  grant_sources_max: 4,
  token_chars_max: 512,
  /** With the end of its line. */
  token_file_bytes_max: 512 + 2,
  token_uses_max: 100_000,
  token_life_ms_max: 365 * 86_400_000,
  tower_database_pages_max: 1024 * 1024,
  /** Until the tower's rules are read again where they could not be, and changes meanwhile that are told apart. */
  rules_retry_ms_base: 250,
  rules_retry_ms_max: 10_000,
  rules_changes_max: 64,
  /** Changes of the tower's database that are committed together: the first of them waits for the last. */
  store_group_changes_max: 64,
  rate_limit_addresses_max: 16_384,
  /** A snapshot, as JSON; its envelope is base64 of it, compressed, in as many messages as that takes. */
  snapshot_bytes_max: 6 * MIB,
  snapshot_envelope_bytes_max: 9 * MIB,
  snapshot_pieces_max: 10,
  /** Revoked and disabled nodes that a node is told of. */
  snapshot_gone_max: 256,
  snapshot_ttl_s: 86_400,
  snapshot_refresh_ms: 6 * 3_600_000,
  snapshot_requests_per_minute_max: 30,
  /** So many to one node at once, then one in each interval: what changes in between is told together. */
  snapshot_pushes_burst_max: 8,
  snapshot_push_interval_ms: 500,
  clock_skew_ms_max: 300_000,

  // `selvedge doctor`.
  doctor_check_ms_max: 10_000,
  doctor_clock_ms_warn: 5_000,
  doctor_disk_bytes_warn: 1_024 * MIB,
  doctor_disk_bytes_min: 64 * MIB,
  enroll_answer_bytes_max: 10 * MIB,
  enroll_attempts_max: 8,
  /** From a challenge to its proof; a node signs at once. */
  enroll_nonce_ms_max: 60_000,
  enroll_nonce_chars_max: 128,
  enroll_challenge_bytes_max: 4 * KIB,
  /** Spent ones are remembered until they would have ended. */
  enroll_nonces_spent_max: 65_536,
  host_addresses_max: 16,
  host_interfaces_max: 256,
  host_id_chars_min: 4,
  host_id_chars_max: 64,
  call_home_days_max: 365,
  call_home_file_bytes_max: 64 * KIB,
  fingerprint_matches_max: 16,
  identity_file_bytes_max: 64 * KIB,

  // What operators say of a cluster.
  tenants_max: 1_024,
  sites_max: 10_000,
  roles_max: 256,
  policies_max: 1_024,
  routes_max: 1_024,
  services_max: 4_096,
  selector_names_max: 64,
  route_via_max: 8,
  rule_priority_max: 10_000,
  node_roles_max: 8,
  /** Of all roles, policies, routes and services together, as JSON: a snapshot may tell a node of each. */
  rules_bytes_max: 1 * MIB,
  site_cache_nodes_max: 20_000,
  description_chars_max: 256,
  page_items_max: 500,
  /** Reading the platform's view is noted so often, of each actor and part of it; and of so many at once. */
  view_audit_ms: 10 * 60_000,
  view_audit_actors_max: 4_096,
  audit_head_ms: 10 * 60_000,
  audit_head_bytes_max: 1 * KIB,
  audit_head_file_bytes_max: 16 * KIB,
  page_items_default: 100,

  // App networks. What one node may be told is bounded so that its snapshot stays below `snapshot_bytes_max`.
  app_networks_max: 1_024,
  app_networks_per_node_max: 256,
  app_network_endpoints_max: 4_096,
  app_hosts_per_node_max: 1_000,
  app_endpoints_per_node_max: 12_288,
  app_cache_endpoints_max: 65_536,
  app_attachments_per_member_max: 256,
  app_attachment_name_chars_max: 63,
  app_mtu_bytes_min: 576,
  app_mtu_bytes_max: 65_535,
  app_requests_per_minute_max: 240,
  app_flows_per_node_max: 8,
  app_request_bytes_max: 4 * KIB,
  wireguard_keys_max: 2,

  // HTTP.
  api_body_bytes_max: 64 * KIB,
  api_header_bytes_max: 16 * KIB,
  api_request_ms_max: 10_000,
  /** For so long may an answer that is ready wait to be taken; then its connection ends. */
  api_answer_ms_max: 10_000,
  /** Requests of one connection whose answers were not taken: an HTTP client that asks ahead asks a handful. */
  api_answers_waiting_max: 16,
  /** A client that never reads has that many answers at most in the kernel's hands. */
  api_requests_per_connection_max: 1_000,
  api_connections_max: 2_048,
  api_connections_per_address_max: 128,
  api_enroll_per_address_per_minute_max: 600,
  /** Of strangers, from all addresses together. */
  api_open_per_minute_max: 60_000,
  /** Of one who is known, over all connections: who manages, and who does not. A client looks at a few pages now and then. */
  api_manager_per_minute_max: 60_000,
  api_client_per_minute_max: 600,
  control_answer_bytes_max: 4 * MIB,

  // Who may use the API.
  operators_max: 10_000,
  operator_bundle_bytes_max: 4 * KIB,
  operator_bundle_life_ms_max: 30 * 86_400_000,
  operator_identity_file_bytes_max: 64 * KIB,
  api_sessions_max: 10_000,
  api_sessions_per_actor_max: 32,
  api_session_life_ms_max: 12 * 3_600_000,
  api_token_chars_max: 128,
  jwt_login_chars_max: 16 * KIB,
  service_tokens_max: 64,
  service_token_file_bytes_max: 16 * KIB,

  // Identity.
  csr_bytes_max: 4 * KIB,
  /** Of a token or key service, with what it takes to log in. */
  signer_answer_ms_max: 15_000,
  signer_line_bytes_max: 16 * KIB,
  pin_chars_max: 256,
  certificate_files_look_ms: 10_000,
  certificate_files_bytes_max: 64 * KIB,
  certificate_files_certs_max: 8,
  /** Read before its signature is looked at; so many entries fit, with serial numbers of 20 octets. */
  crl_bytes_max: 1 * MIB,
  crl_entries_max: 20_000,
  /** A leaf that was followed by another is accepted for so long after that one was first seen, and so many of a node at once. */
  leaf_overlap_ms: 15 * 60_000,
  leaf_old_max: 2,
  /** Until what the tower recorded has reached the peers, by their snapshots. */
  leaf_publish_ms: 2_000,
  leaf_retire_look_ms: 60_000,
  /** A peer's channel moves over to its new leaf within so long: below `leaf_overlap_ms`, and spread, since many may have to. */
  leaf_refresh_ms_max: 5 * 60_000,
  leaf_answer_ms_max: 30_000,
  leaf_requests_per_minute_max: 6,
  /** Until a renewal that failed is tried again. */
  leaf_retry_ms_base: 60_000,
  leaf_retry_ms_max: 3_600_000,
  trust_roots_max: 8,
  trust_bundle_bytes_max: 128 * KIB,
  /** Of the nodes that are neither disabled nor revoked: so many have to be ready for the next phase of a rotation, unless told. */
  trust_threshold_percent: 95,
  /** Renewals that a rotation calls for are spread over so long for each node of the cluster. */
  trust_reissue_per_node_ms: 200,
  /** Channels that are there have so long to move over to sessions under the new root once the old one is none any more. */
  trust_grace_ms: 60_000,
  trust_missing_listed_max: 20,
  sealed_store_entries_max: 1_024,
  sealed_store_name_bytes_max: 128,
  unseal_file_bytes_max: 4 * KIB,
  /** Of a site's token, by each of its nodes: the newest, and the one before it, with which a node that is just away may be sealed. */
  site_token_generations_kept: 2,
  /** By the tower, while a node's store is sealed with them. */
  site_token_generations_max: 64,
  site_token_ms_max: 30 * 86_400_000,
  site_reports_per_minute_max: 30,
  boot_file_bytes_max: 128 * KIB,
  /** Nodes of the site that a node remembers for its next start. */
  boot_peers_max: 32,
  unseal_per_node_per_minute_max: 12,
  api_unseal_per_address_per_minute_max: 120,
  unseal_peers_per_round_max: 8,
  unseal_request_ms_max: 3_000,
  unseal_backoff_ms_max: 10_000,
  scrypt_cost_log2_max: 17,
  scrypt_passes_max: 8,

  // Identity told by others: JSON Web Tokens, their keys, and requests that go out for them.
  jwt_bytes_max: 8 * KIB,
  jwt_text_chars_max: 512,
  jwt_skew_s_max: 60,
  /** Of a token, from issue to expiry, unless its issuer's configuration says otherwise. */
  jwt_life_s_max: 86_400,
  jwks_bytes_max: 128 * KIB,
  jwks_keys_max: 64,
  jwks_key_bits_max: 8_192,
  /** After so long keys are fetched anew; while that fails, those that are there serve on for `jwks_stale_ms_max`. */
  jwks_fresh_ms_max: 10 * 60_000,
  jwks_stale_ms_max: 60 * 60_000,
  /** Between two fetches, however many tokens name keys that nobody knows. */
  jwks_refetch_ms_min: 10_000,
  outbound_ms_max: 5_000,
  outbound_url_chars_max: 8 * KIB,
  /** Requests of hosts that have proved nothing, for which a platform is being asked at the same time. */
  platform_calls_max: 32,
  platform_answer_bytes_max: 32 * KIB,
  platform_endpoints_max: 64,
  platform_facts_max: 8,

  // Files.
  config_file_bytes_max: 1 * MIB,
  /** Told of one file; how many there are is told as well. */
  config_faults_max: 20,
  sealed_store_bytes_max: 8 * MIB,
  transfer_file_bytes_max: 1024 * 1024 * MIB,
  transfer_name_bytes_max: 255,
  transfers_at_once_max: 64,
  transfers_per_peer_max: 16,
  /** What receiving files leaves free on the disk: the state of this host may lie there too. */
  transfer_disk_reserve_bytes: 64 * MIB,
  transfer_disk_reserve_files: 1_024,
  transfer_word_bytes_max: 8 * KIB,
  transfer_patience_ms: 5 * 60_000,
  transfer_part_days_max: 7,
  transfers_remembered_max: 1_024,

  // The local control API.
  control_backlog_bytes_max: 1 * MIB,
  ping_count_max: 1_000_000,

  // Services.
  echo_flows_per_peer_max: 64,

  // App networks on a host: the control socket of selvedge-tunnel, keys, paths, attachments.
  tunnel_line_bytes_max: 16 * MIB,
  tunnel_list_max: 100_000,
  tunnel_requests_max: 64,
  tunnel_answer_ms_max: 15_000,
  tunnel_apply_ms_max: 60_000,
  tunnel_start_ms_max: 5_000,
  tunnel_restart_ms_base: 50,
  tunnel_log_bytes_max: 1 * MIB,
  app_retry_ms_base: 1_000,
  app_retry_ms_max: 60_000,
  app_poll_ms: 1_000,
  app_event_ms: 100,
  /** Between two looks while something is sent to a peer that could also be carried. */
  app_talking_poll_ms: 250,
  carry_event_ms: 20,
  app_answer_ms_max: 10_000,
  app_attachments_max: 1_024,
  app_attachments_file_bytes_max: 1 * MIB,
  app_broadcast_pps_max: 200,
  app_ping_ms_max: 10_000,
  app_ping_bytes_max: 65_000,
  wireguard_port_default: 51_820,
  wireguard_keepalive_s: 25,
  wireguard_probe_s: 5,
  wireguard_key_ms_max: 30 * 86_400_000,
  /** Both keys live at least so long after the new one was published: longer than any session of WireGuard (180 s). */
  wireguard_overlap_ms_min: 5 * 60_000,
  wireguard_overlap_ms_max: 60 * 60_000,
  wireguard_unused_ms_min: 240_000,

  // The carried path of app networks: sealed packets on flows of class `vpn_packet`.
  /** What may wait in a sender, as time at the path's rate: a few tens of ms, since WireGuard wants loss, not delay. */
  carry_queue_ms: 30,
  /** For so long may what was consumed wait for its acknowledgement (a channel gathers them). */
  carry_acknowledge_ms: 25,
  carry_window_bytes_initial: 128 * KIB,
  carry_window_bytes_min: 32 * KIB,
  /** Also the credit of such a flow, so that the sender's window is what bounds it. */
  carry_window_bytes_max: 8 * MIB,
  /** Packets wait for their acknowledgement in blocks of this size; so many empty ones are kept. */
  carry_block_bytes: 256 * KIB,
  carry_spare_blocks_max: 8,
  carry_greeting_bytes_max: 64,
  carry_answer_bytes_max: 4 * KIB,
  /** Flows of service `carry` of which the greeting has not come, of one peer. */
  carry_greetings_per_peer_max: 8,
  carry_retry_ms_base: 50,
  carry_retry_ms_max: 2_000,
  /** Until it is asked again whether rules still deny that packets are carried: the other end may hear of a change a moment later. */
  carry_denied_ms_base: 500,
  carry_denied_ms_max: 5 * 60_000,
  /** What the tower, or another node in the middle, passes on. */
  carry_pairs_max: 4_096,
  carry_pairs_per_node_max: 1_000,
  /** Under way for all pairs together, shared evenly. */
  carry_relay_bytes_max: 128 * MIB,
  carry_opens_per_minute_max: 600,
  carry_turn_bytes_max: 128 * KIB,
  carry_look_ms: 4,

  // What is seen.
  /** App networks and their peers that metrics have a row for; all others share one. */
  metric_networks_max: 64,
  metric_peers_max: 64,
  events_kept_max: 2_048,
  event_field_chars_max: 512,
  event_followers_max: 16,
  channel_detail_flows_max: 64,
  channel_detail_failures_max: 8,
  /** A node's reports to its tower: at this interval, shortened by up to this part, and on change not closer than that. */
  report_ms: 60_000,
  report_jitter_part: 0.2,
  report_ms_min: 5_000,
  report_bytes_max: 16 * KIB,
  report_unwell_max: 16,
  report_failures_max: 64,
  reports_per_minute_max: 30,

  // The lab.
  lab_parts_max: 64,
  lab_command_ms_max: 20_000,
  lab_command_output_bytes_max: 4 * MIB,
  lab_process_line_bytes_max: 64 * KIB,
  lab_process_stop_ms_max: 3_000,
} as const;
