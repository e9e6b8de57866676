// What Knot 3.2 (module ABI 400) has where, on 64-bit machines. Read twice: the build script has the C compiler assert it against
// the installed `knot/module.h`, and `abi.rs` has rustc assert it against what is declared there. So both sides agree.

sizes! {
    "knotd_mod_api_t" ModApi 56;
    "yp_item_t" YpItem 104;
    "knotd_conf_t" Conf 280;
    "knotd_qdata_params_t" Params 48;
    "knotd_qdata_t" QueryData 176;
    "knot_pkt_t" Packet 464;
    "knot_pktsection_t" Section 16;
    "knot_rrset_t" RrsetView 40;
    "knot_rdataset_t" RdataSet 16;
    "knot_rrinfo_t" RrInfo 36;
    "knot_compr_t" Compression 24;
    "knot_mm_t" Memory 24;
    "knot_edns_client_subnet_t" ClientSubnet 20;
}

offsets! {
    "knotd_mod_api_t" ModApi "version" version 0;
    "knotd_mod_api_t" ModApi "name" name 8;
    "knotd_mod_api_t" ModApi "flags" flags 16;
    "knotd_mod_api_t" ModApi "load" load 24;
    "knotd_mod_api_t" ModApi "unload" unload 32;
    "knotd_mod_api_t" ModApi "config" config 40;
    "knotd_mod_api_t" ModApi "config_check" config_check 48;
    "yp_item_t" YpItem "name" name 0;
    "yp_item_t" YpItem "type" kind 8;
    "yp_item_t" YpItem "var" var 16;
    "yp_item_t" YpItem "flags" flags 48;
    "yp_item_t" YpItem "misc" misc 56;
    "yp_item_t" YpItem "parent" parent 88;
    "yp_item_t" YpItem "sub_items" sub_items 96;
    "knotd_conf_t" Conf "single" single 0;
    "knotd_conf_t" Conf "multi" multi 264;
    "knotd_conf_t" Conf "count" count 272;
    "knotd_qdata_params_t" Params "proto" protocol 0;
    "knotd_qdata_params_t" Params "thread_id" thread_id 20;
    "knotd_qdata_t" QueryData "query" query 0;
    "knotd_qdata_t" QueryData "type" kind 8;
    "knotd_qdata_t" QueryData "name" name 16;
    "knotd_qdata_t" QueryData "rcode" rcode 24;
    "knotd_qdata_t" QueryData "opt_rr" opt_rr 32;
    "knotd_qdata_t" QueryData "ecs" ecs 136;
    "knotd_qdata_t" QueryData "err_truncated" err_truncated 144;
    "knotd_qdata_t" QueryData "params" params 160;
    "knot_pkt_t" Packet "wire" wire 0;
    "knot_pkt_t" Packet "size" size 8;
    "knot_pkt_t" Packet "max_size" max_size 16;
    "knot_pkt_t" Packet "reserved" reserved 32;
    "knot_pkt_t" Packet "qname_size" qname_size 34;
    "knot_pkt_t" Packet "rrset_count" rrset_count 36;
    "knot_pkt_t" Packet "opt_rr" opt_rr 40;
    "knot_pkt_t" Packet "current" current 80;
    "knot_pkt_t" Packet "sections" sections 88;
    "knot_pkt_t" Packet "rr_info" rr_info 144;
    "knot_pkt_t" Packet "rr" rr 152;
    "knot_pkt_t" Packet "mm" mm 160;
    "knot_pkt_t" Packet "compr" compr 184;
    "knot_pkt_t" Packet "lower_qname" lower_qname 208;
    "knot_pktsection_t" Section "pos" pos 8;
    "knot_pktsection_t" Section "count" count 10;
    "knot_rrset_t" RrsetView "owner" owner 0;
    "knot_rrset_t" RrsetView "ttl" ttl 8;
    "knot_rrset_t" RrsetView "type" rtype 12;
    "knot_rrset_t" RrsetView "rclass" class 14;
    "knot_rrset_t" RrsetView "rrs" rrs 16;
    "knot_rrset_t" RrsetView "additional" additional 32;
    "knot_rdataset_t" RdataSet "count" count 0;
    "knot_rdataset_t" RdataSet "size" size 4;
    "knot_rdataset_t" RdataSet "rdata" rdata 8;
    "knot_rrinfo_t" RrInfo "pos" pos 0;
    "knot_rrinfo_t" RrInfo "flags" flags 2;
    "knot_rrinfo_t" RrInfo "compress_ptr" compress_ptr 4;
    "knot_compr_t" Compression "wire" wire 0;
    "knot_compr_t" Compression "rrinfo" rrinfo 8;
    "knot_compr_t" Compression "suffix.pos" suffix_pos 16;
    "knot_compr_t" Compression "suffix.labels" suffix_labels 18;
    "knot_mm_t" Memory "ctx" ctx 0;
    "knot_mm_t" Memory "alloc" alloc 8;
    "knot_edns_client_subnet_t" ClientSubnet "family" family 0;
    "knot_edns_client_subnet_t" ClientSubnet "source_len" source_len 2;
    "knot_edns_client_subnet_t" ClientSubnet "scope_len" scope_len 3;
    "knot_edns_client_subnet_t" ClientSubnet "address" address 4;
}

constants! {
    "KNOTD_MOD_ABI_VERSION" ABI_VERSION 400;
    "KNOTD_MOD_FLAG_SCOPE_ANY" FLAG_SCOPE_ANY 6;
    "YP_TBOOL" YP_BOOL 2;
    "YP_TSTR" YP_STRING 4;
    "YP_FNONE" YP_NO_FLAG 0;
    "KNOT_EOK" OK 0;
    "KNOT_ESPACE" NO_SPACE -995;
    "KNOT_PF_FREE" PF_FREE 2;
    "KNOT_PF_NOTRUNC" PF_NOTRUNC 4;
    "KNOT_ANSWER" ANSWER 0;
    "KNOT_AUTHORITY" AUTHORITY 1;
    "KNOT_ADDITIONAL" ADDITIONAL 2;
    "KNOTD_QUERY_TYPE_NORMAL" QUERY_NORMAL 1;
    "KNOTD_QUERY_PROTO_UDP" PROTO_UDP 0;
    "KNOTD_QUERY_PROTO_TCP" PROTO_TCP 1;
    "KNOTD_QUERY_PROTO_QUIC" PROTO_QUIC 2;
    "KNOT_CLASS_IN" CLASS_IN 1;
    "KNOTD_STATE_NOOP" STATE_NOOP 0;
    "KNOTD_STATE_FINAL" STATE_FINAL 6;
    "KNOTD_STATE_DONE" STATE_DONE 4;
    "KNOTD_STATE_FAIL" STATE_FAIL 5;
    "KNOTD_IN_STATE_BEGIN" IN_BEGIN 0;
    "KNOTD_IN_STATE_NODATA" IN_NODATA 1;
    "KNOTD_IN_STATE_HIT" IN_HIT 2;
    "KNOTD_IN_STATE_MISS" IN_MISS 3;
    "KNOTD_IN_STATE_DELEG" IN_DELEG 4;
    "KNOTD_IN_STATE_FOLLOW" IN_FOLLOW 5;
    "KNOTD_IN_STATE_TRUNC" IN_TRUNC 6;
    "KNOTD_IN_STATE_ERROR" IN_ERROR 7;
    "KNOTD_STAGE_BEGIN" STAGE_BEGIN 0;
    "KNOTD_STAGE_PREANSWER" STAGE_PREANSWER 1;
    "KNOTD_STAGE_ANSWER" STAGE_ANSWER 2;
    "KNOTD_STAGE_ADDITIONAL" STAGE_ADDITIONAL 4;
    "KNOTD_STAGE_END" STAGE_END 5;
    "KNOT_COMPR_HINT_NONE" HINT_NONE 0;
    "KNOT_COMPR_HINT_QNAME" HINT_QNAME 12;
    "KNOT_EDNS_OPTION_CLIENT_SUBNET" OPTION_CLIENT_SUBNET 8;
}

// Signatures: the build script asserts that pointers to these have exactly these types in C.
functions! {
    "knotd_mod_ctx" "void *(*)(knotd_mod_t *)";
    "knotd_mod_ctx_set" "void (*)(knotd_mod_t *, void *)";
    "knotd_mod_zone" "const knot_dname_t *(*)(knotd_mod_t *)";
    "knotd_mod_log" "void (*)(knotd_mod_t *, int, const char *, ...)";
    "knotd_conf_mod" "knotd_conf_t (*)(knotd_mod_t *, const yp_name_t *)";
    "knotd_mod_hook" "int (*)(knotd_mod_t *, knotd_stage_t, knotd_mod_hook_f)";
    "knotd_mod_in_hook" "int (*)(knotd_mod_t *, knotd_stage_t, knotd_mod_in_hook_f)";
    "knotd_qdata_remote_addr" "const struct sockaddr_storage *(*)(knotd_qdata_t *)";
    "knotd_qdata_local_addr" "const struct sockaddr_storage *(*)(knotd_qdata_t *, struct sockaddr_storage *)";
    "knotd_qdata_zone_apex_rrset" "knot_rrset_t (*)(knotd_qdata_t *, uint16_t)";
    "knotd_qdata_zone_name" "const knot_dname_t *(*)(knotd_qdata_t *)";
    "knot_pkt_begin" "int (*)(knot_pkt_t *, knot_section_t)";
    "knot_pkt_put_rotate" "int (*)(knot_pkt_t *, uint16_t, const knot_rrset_t *, uint16_t, uint16_t)";
}
