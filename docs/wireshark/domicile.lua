-- A Wireshark dissector for what is domicile's own on the wire: the relayed path, path control, the experimental mobility
-- messages and options, and the private notifies of IKEv2. IKE, ESP, IPv6 and the Mobility Header itself are Wireshark's.
--
-- To install, copy this file into the personal Lua plugins folder (in Wireshark: Help, About, Folders; on Linux
-- ~/.local/lib/wireshark/plugins) and press Ctrl+Shift+L. Or name it once: tshark -X lua_script:domicile.lua -r FILE
-- What is inside ESP and IKE is read with the keys that 'domicile up --keylog FILE' writes: see docs/operations.md.
--
--   domicile.relayed    domicile.relayed.source, .destination   the two permanent addresses
--                       .source_home, .destination_home         the IPv4 addresses in them
--                       .hops                                    home agents that it has passed
--                       .content                                 "ESP", "IKE", "ICMPv6 error", or "refused"
--   domicile.path       domicile.path.version, .type, .flags, .in_use, .answer, .moves
--                       .generation, .acknowledged, .count, .candidate.kind, .candidate.address, .candidate.port
--                       .token, .size, .observed.address, .observed.port
--   domicile.binding    domicile.binding.kind, .cookie, .observed.address, .observed.port
--   domicile.ike        domicile.ike.version, .address_hash, .document, .endorsement.old, .new, .signature
--
-- The formats are in docs/protocol.md. Anything that is cut off or wrong gets an expert item and nothing more.

local GROUP, ERROR, NOTE = expert.group.MALFORMED, expert.severity.ERROR, expert.severity.NOTE

-- call: another dissector; what it cannot read it has said in the tree, and that is the end of it. Of a packet that the capture
-- has cut short, what is there is shown as all there is: the exception that tells the other leaps over Lua, which loses count
-- of its stack and ends after some hundred.
local function call(dissector, tvb, pinfo, tree)
    if tvb:len() == 0 then return end
    if tvb:len() < tvb:reported_len() then tvb = tvb():tvb() end
    pcall(dissector.call, dissector, tvb, pinfo, tree)
end

-- --- the relayed path: a whole IPv6 packet in UDP --------------------------------------------------------------------

local relayed = Proto("domicile.relayed", "domicile, relayed path")
local r = {
    source = ProtoField.ipv6("domicile.relayed.source", "Source, a permanent address"),
    destination = ProtoField.ipv6("domicile.relayed.destination", "Destination, a permanent address"),
    source_home = ProtoField.ipv4("domicile.relayed.source_home", "Home of the source, by its address"),
    destination_home = ProtoField.ipv4("domicile.relayed.destination_home", "Home of the destination, by its address"),
    hops = ProtoField.uint8("domicile.relayed.hops", "Home agents passed"),
    content = ProtoField.string("domicile.relayed.content", "Content"),
}
relayed.fields = r
local r_refused = ProtoExpert.new("domicile.relayed.refused", "No home agent and no node takes this in relayed form", GROUP, NOTE)
relayed.experts = { r_refused }
relayed.prefs.port = Pref.uint("UDP port", 4500, "The port that the nodes use ([node] port)")

local IPV6_HEADER, FIRST_HOP_LIMIT, SIX_TO_FOUR = 40, 64, 0x2002
local udp_port = DissectorTable.get("udp.port")
local ipv6, udpencap = Dissector.get("ipv6"), udp_port:get_dissector(4500)

-- Behind NATs no port is 4500. Who has spoken with port 4500, and who was named as a candidate, is known by address and port.
local endpoints = {}
function relayed.init() endpoints = {} end
local function learn(address, port) endpoints[tostring(address) .. " " .. port] = true end
local function is_known(address, port) return endpoints[tostring(address) .. " " .. port] end

-- An SPI of foreign ESP may begin with nibble 6: what is IPv6 has IPv6's length.
local function is_relayed(tvb)
    return tvb:len() >= IPV6_HEADER and tvb(0, 1):bitfield(0, 4) == 6
        and tvb(4, 2):uint() + IPV6_HEADER == tvb:reported_len()
end

local function relayed_content(tvb)
    local next_header, len = tvb(6, 1):uint(), tvb:len() - IPV6_HEADER
    if next_header == 50 and len >= 8 then return "ESP" end
    if next_header == 17 and len >= 8 then
        local source, destination, sum = tvb(40, 2):uint(), tvb(42, 2):uint(), tvb(46, 2):uint()
        if source == 500 and destination == 500 and sum ~= 0 then return "IKE" end
    end
    if next_header == 58 and len >= 8 then
        local kind = tvb(40, 1):uint()
        if kind >= 1 and kind <= 4 then return "ICMPv6 error" end
    end
    return "refused"
end

function relayed.dissector(tvb, pinfo, tree)
    learn(pinfo.src, pinfo.src_port)
    learn(pinfo.dst, pinfo.dst_port)
    if not is_relayed(tvb) then
        call(udpencap, tvb, pinfo, tree)
        return tvb:len()
    end
    local header, content = tvb(0, IPV6_HEADER), relayed_content(tvb)
    local top = tree:add(relayed, header)
    top:append_text(": " .. content .. ", " .. tostring(tvb(8, 16):ipv6()) .. " to " .. tostring(tvb(24, 16):ipv6()))
    top:add(r.source, tvb(8, 16))
    if tvb(8, 2):uint() == SIX_TO_FOUR then top:add(r.source_home, tvb(10, 4)) end
    top:add(r.destination, tvb(24, 16))
    if tvb(24, 2):uint() == SIX_TO_FOUR then top:add(r.destination_home, tvb(26, 4)) end
    local hop_limit = tvb(7, 1):uint()
    if hop_limit <= FIRST_HOP_LIMIT then top:add(r.hops, tvb(7, 1), FIRST_HOP_LIMIT - hop_limit) end
    local item = top:add(r.content, tvb(6, 1), content)
    if content == "refused" then item:add_proto_expert_info(r_refused) end
    call(ipv6, tvb, pinfo, tree)
    return tvb:len()
end

relayed:register_heuristic("udp", function(tvb, pinfo, tree)
    if not is_known(pinfo.src, pinfo.src_port) and not is_known(pinfo.dst, pinfo.dst_port) then return false end
    relayed.dissector(tvb, pinfo, tree)
    return true
end)

local registered = 4500
udp_port:add(registered, relayed)
function relayed.prefs_changed()
    if relayed.prefs.port == registered then return end
    udp_port:remove(registered, relayed)
    registered = relayed.prefs.port
    udp_port:add(registered, relayed)
end

-- --- path control: ESP dummy packets, next header 59 -------------------------------------------------------------------

local path = Proto("domicile.path", "domicile, path control")
local CANDIDATES, CHALLENGE, RESPONSE = 1, 2, 3
local TYPES = { [CANDIDATES] = "Candidates", [CHALLENGE] = "Challenge", [RESPONSE] = "Response" }
local KINDS = { [1] = "interface", [2] = "as the home agent sees it" }
local p = {
    version = ProtoField.uint8("domicile.path.version", "Version"),
    type = ProtoField.uint8("domicile.path.type", "Type", base.DEC, TYPES),
    flags = ProtoField.uint8("domicile.path.flags", "Flags", base.HEX),
    in_use = ProtoField.bool("domicile.path.in_use", "Has data to send", 8, nil, 0x01),
    answer = ProtoField.bool("domicile.path.answer", "Answers candidates", 8, nil, 0x02),
    moves = ProtoField.uint32("domicile.path.moves", "Moves of the sender"),
    generation = ProtoField.uint32("domicile.path.generation", "Generation"),
    acknowledged = ProtoField.uint32("domicile.path.acknowledged", "Generation seen from the receiver"),
    count = ProtoField.uint8("domicile.path.count", "Candidates"),
    kind = ProtoField.uint8("domicile.path.candidate.kind", "Kind", base.DEC, KINDS),
    address = ProtoField.ipv4("domicile.path.candidate.address", "Address"),
    port = ProtoField.uint16("domicile.path.candidate.port", "UDP port"),
    token = ProtoField.bytes("domicile.path.token", "Token"),
    size = ProtoField.uint16("domicile.path.size", "Octets of the message"),
    observed_address = ProtoField.ipv4("domicile.path.observed.address", "The challenge came from"),
    observed_port = ProtoField.uint16("domicile.path.observed.port", "The challenge came from UDP port"),
}
path.fields = p
local p_version = ProtoExpert.new("domicile.path.unknown_version", "Another version than 1: ignored", GROUP, ERROR)
local p_type = ProtoExpert.new("domicile.path.unknown_type", "Unknown type: ignored", GROUP, ERROR)
local p_length = ProtoExpert.new("domicile.path.length", "Wrong length: ignored", GROUP, ERROR)
local p_kind = ProtoExpert.new("domicile.path.unknown_kind", "Unknown kind of candidate: the message is ignored", GROUP, ERROR)
path.experts = { p_version, p_type, p_length, p_kind }

local HEADER, LIST_HEADER, CANDIDATE, MOST = 12, 12, 8, 8

local function candidates(tvb, top)
    if tvb:len() < HEADER + LIST_HEADER then return top:add_proto_expert_info(p_length) end
    top:add(p.generation, tvb(12, 4))
    top:add(p.acknowledged, tvb(16, 4))
    top:add(p.count, tvb(20, 1))
    local count = tvb(20, 1):uint()
    if count > MOST or tvb:len() ~= HEADER + LIST_HEADER + CANDIDATE * count then
        return top:add_proto_expert_info(p_length)
    end
    for n = 0, count - 1 do
        local at = tvb(HEADER + LIST_HEADER + CANDIDATE * n, CANDIDATE)
        local kind, address, port = at(0, 1):uint(), at(4, 4), at(2, 2)
        local item = top:add(path, at, "Candidate: " .. tostring(address:ipv4()) .. ":" .. port:uint() .. ", "
            .. (KINDS[kind] or "of unknown kind"))
        item:add(p.kind, at(0, 1))
        item:add(p.address, address)
        item:add(p.port, port)
        learn(address:ipv4(), port:uint())
        if not KINDS[kind] then item:add_proto_expert_info(p_kind) end
    end
    return count .. (count == 1 and " candidate" or " candidates")
end

local function challenge(tvb, top)
    if tvb:len() < HEADER + 8 then return top:add_proto_expert_info(p_length) end
    top:add(p.token, tvb(12, 8))
    top:add(p.size, tvb(), tvb:len())
    return tostring(tvb(12, 8):bytes()):lower() .. ", " .. tvb:len() .. " octets"
end

local function response(tvb, top)
    if tvb:len() ~= HEADER + 16 then return top:add_proto_expert_info(p_length) end
    top:add(p.token, tvb(12, 8))
    local text = tostring(tvb(12, 8):bytes()):lower()
    if tvb(20, 4):uint() == 0 then return text .. ", relayed" end
    top:add(p.observed_address, tvb(20, 4))
    top:add(p.observed_port, tvb(24, 2))
    return text .. ", challenged from " .. tostring(tvb(20, 4):ipv4()) .. ":" .. tvb(24, 2):uint()
end

local BODIES = { [CANDIDATES] = candidates, [CHALLENGE] = challenge, [RESPONSE] = response }

-- Zero, that is "not mine", for the dummy packets of other implementations.
function path.dissector(tvb, pinfo, tree)
    if tvb:len() < 8 or tvb(0, 4):string() ~= "domi" then return 0 end
    pinfo.cols.protocol = "domicile"
    local top = tree:add(path, tvb())
    top:add(p.version, tvb(4, 1))
    if tvb(4, 1):uint() ~= 1 then
        top:add_proto_expert_info(p_version)
        return tvb:len()
    end
    local kind = tvb(5, 1):uint()
    local name = TYPES[kind] or ("type " .. kind)
    top:append_text(": " .. name)
    top:add(p.type, tvb(5, 1))
    local flags = top:add(p.flags, tvb(6, 1))
    flags:add(p.in_use, tvb(6, 1))
    if kind == CANDIDATES then flags:add(p.answer, tvb(6, 1)) end
    if tvb:len() < HEADER then
        top:add_proto_expert_info(p_length)
        return tvb:len()
    end
    top:add(p.moves, tvb(8, 4))
    local body, said = BODIES[kind], nil
    if body then said = body(tvb, top) else top:add_proto_expert_info(p_type) end
    said = type(said) == "string" and name .. ": " .. said or name
    pinfo.cols.info = "path control, " .. said
    return tvb:len()
end

local ip_proto = DissectorTable.get("ip.proto")
ip_proto:add(59, path)

-- --- bindings: the experimental message (type 11) and option (18) of RFC 5096 ------------------------------------------

local binding = Proto("domicile.binding", "domicile, bindings")
local OBSERVED, COOKIE_CHALLENGE, COOKIE_RESPONSE = 1, 2, 3
local b = {
    kind = ProtoField.uint8("domicile.binding.kind", "Kind", base.DEC,
        { [OBSERVED] = "observed", [COOKIE_CHALLENGE] = "challenge", [COOKIE_RESPONSE] = "response" }),
    cookie = ProtoField.bytes("domicile.binding.cookie", "Cookie"),
    address = ProtoField.ipv4("domicile.binding.observed.address", "The sender as the home agent sees it"),
    port = ProtoField.uint16("domicile.binding.observed.port", "Its UDP port"),
}
binding.fields = b
local b_length = ProtoExpert.new("domicile.binding.length", "Wrong length: the message is dropped", GROUP, ERROR)
binding.experts = { b_length }

local EXPERIMENT, UPDATE, ACKNOWLEDGEMENT, EXPERIMENTAL, OPTION = 0xd0c1, 5, 6, 11, 18
local mobility = ip_proto:get_dissector(135)

local function binding_option(option, tree)
    local kind, data = option(4, 1):uint(), option:len() - 6
    if kind ~= OBSERVED and kind ~= COOKIE_CHALLENGE then return end
    local top = tree:add(binding, option)
    top:add(b.kind, option(4, 1))
    if kind == OBSERVED and data == 6 then
        top:append_text(": observed " .. tostring(option(6, 4):ipv4()) .. ":" .. option(10, 2):uint())
        top:add(b.address, option(6, 4))
        top:add(b.port, option(10, 2))
    elseif kind == COOKIE_CHALLENGE and data == 8 then
        top:append_text(": challenge")
        top:add(b.cookie, option(6, 8))
    else
        top:add_proto_expert_info(b_length)
    end
end

-- What follows the fixed part of a message: Pad1 is one zero octet, all others have a type and a length.
local function binding_options(tvb, at, tree)
    while at < tvb:len() do
        if tvb(at, 1):uint() == 0 then
            at = at + 1
        else
            if at + 2 > tvb:len() then return end
            local len = tvb(at + 1, 1):uint()
            if at + 2 + len > tvb:len() then return end
            if tvb(at, 1):uint() == OPTION and len >= 4 and tvb(at + 2, 2):uint() == EXPERIMENT then
                binding_option(tvb(at, 2 + len), tree)
            end
            at = at + 2 + len
        end
    end
end

function binding.dissector(tvb, pinfo, tree)
    call(mobility, tvb, pinfo, tree)
    if tvb:len() < 12 then return tvb:len() end
    local kind = tvb(2, 1):uint()
    if kind == UPDATE or kind == ACKNOWLEDGEMENT then
        binding_options(tvb, 12, tree)
    elseif kind == EXPERIMENTAL and tvb(6, 2):uint() == EXPERIMENT then
        local top = tree:add(binding, tvb(6))
        top:add(b.kind, tvb(8, 1))
        if tvb:len() < 18 then
            top:add_proto_expert_info(b_length)
        else
            local said = tvb(8, 1):uint() == COOKIE_CHALLENGE and "challenge" or "response"
            top:append_text(": " .. said)
            top:add(b.cookie, tvb(10, 8))
            pinfo.cols.info = "home agent's reachability, " .. said
            binding_options(tvb, 18, top)
        end
    end
    return tvb:len()
end
ip_proto:add(135, binding)

-- --- the private notifies of IKEv2 -------------------------------------------------------------------------------------

local ike = Proto("domicile.ike", "domicile, IKEv2 notify")
local HELLO, DOCUMENT, ENDORSEMENT = 40960, 40961, 40963
local NAMES = { [HELLO] = "DOMICILE", [DOCUMENT] = "DOMICILE_DOCUMENT", [ENDORSEMENT] = "KEY_ENDORSEMENT" }
local i = {
    version = ProtoField.uint8("domicile.ike.version", "Version"),
    address_hash = ProtoField.bytes("domicile.ike.address_hash", "SHA-1 of SPIs and the sender's own address and port"),
    document = ProtoField.string("domicile.ike.document", "Document"),
    old = ProtoField.bytes("domicile.ike.endorsement.old", "Old key"),
    new = ProtoField.bytes("domicile.ike.endorsement.new", "New key, endorsed by the old one"),
    signature = ProtoField.bytes("domicile.ike.endorsement.signature", "Signature by the old key"),
}
ike.fields = i
local i_length = ProtoExpert.new("domicile.ike.length", "Wrong length", GROUP, ERROR)
ike.experts = { i_length }
local notify_types, notify_data = Field.new("isakmp.notify.msgtype"), Field.new("isakmp.notify.data")
local found_json, json = pcall(Dissector.get, "json")

local function notify(kind, data, pinfo, tree)
    local top = tree:add(ike, data)
    top:append_text(": " .. NAMES[kind])
    if kind == HELLO and data:len() == 21 then
        top:add(i.version, data(0, 1))
        top:add(i.address_hash, data(1, 20))
    elseif kind == DOCUMENT then
        top:add(i.document, data)
        if found_json and json then call(json, data:tvb(), pinfo, top) end
    elseif kind == ENDORSEMENT and data:len() == 128 then
        top:add(i.old, data(0, 32))
        top:add(i.new, data(32, 32))
        top:add(i.signature, data(64, 64))
    else
        top:add_proto_expert_info(i_length)
    end
end

-- Wireshark has no table of notify types: what it has found is read again. The data follow type and SPI, and belong to the
-- nearest type before them.
function ike.dissector(_, pinfo, tree)
    local types, all = { notify_types() }, { notify_data() }
    for _, data in ipairs(all) do
        local kind
        for _, of in ipairs(types) do
            if of.offset < data.offset and of.offset + 6 >= data.offset then kind = of.value end
        end
        if kind and NAMES[kind] and data.len > 0 then notify(kind, data.range, pinfo, tree) end
    end
end
register_postdissector(ike)
