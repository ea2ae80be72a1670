// Numeric addresses and blocks of them.

import { describe, it } from "node:test";
import { assertEquals } from "@std/assert";
import { Cidr, formatIp, parseIp, parseIpv4, parseIpv6 } from "../../core/ip.ts";

describe("numeric addresses", () => {
  it("are read in any spelling and written in one spelling", () => {
    for (
      const [text, written] of [
        ["0.0.0.0", "0.0.0.0"],
        ["255.255.255.255", "255.255.255.255"],
        ["::", "::"],
        ["::1", "::1"],
        ["1::", "1::"],
        ["0:0:0:0:0:0:0:1", "::1"],
        ["2001:DB8:0:0:1:0:0:1", "2001:db8::1:0:0:1"],
        ["2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"],
        ["::ffff:1.2.3.4", "::ffff:1.2.3.4"],
        ["::FFFF:102:304", "::ffff:1.2.3.4"],
        ["64:ff9b::1.2.3.4", "64:ff9b::102:304"],
      ] as const
    ) {
      const bytes = parseIpv4(text) ?? parseIpv6(text);
      assertEquals(bytes === null ? null : formatIp(bytes), written, text);
    }
  });

  it("are distinguished from other values", () => {
    for (
      const text of [
        ...[
          "",
          "1",
          "1.2.3",
          "1.2.3.4.5",
          "01.2.3.4",
          "256.1.1.1",
          "1.2.3.4 ",
          "localhost",
          ":",
          ":::",
          "1:2:3:4:5:6:7",
        ],
        ...["1:2:3:4:5:6:7:8:9", "1::2::3", "12345::", "::g", "fe80::1%eth0", "1:2:3:4:5:6:7::8:9", "::1.2.3.256"],
      ]
    ) assertEquals(parseIp(text), null, text);
  });
});

describe("a block of addresses", () => {
  const has = (block: string, address: string): boolean => Cidr.parse(block)!.has(parseIp(address)!);

  it("contains the addresses that begin with its prefix", () => {
    for (
      const [block, inside, outside] of [
        ["192.0.2.0/24", "192.0.2.255", "192.0.3.0"],
        ["192.0.2.1", "192.0.2.1", "192.0.2.2"],
        ["10.0.0.0/9", "10.127.0.0", "10.128.0.0"],
        ["10.0.0.7/31", "10.0.0.6", "10.0.0.8"],
        ["0.0.0.0/0", "255.0.0.1", "::1"],
        ["2001:db8::/32", "2001:db8:ffff::", "2001:db9::"],
        ["::1/128", "::1", "::2"],
        ["::/0", "2001::", "1.2.3.4"],
        ["::ffff:10.0.0.0/104", "10.1.2.3", "11.0.0.0"],
        ["10.0.0.0/8", "::ffff:10.9.9.9", "::ffff:11.9.9.9"],
      ] as const
    ) assertEquals([has(block, inside), has(block, outside)], [true, false], block);
  });

  it("is distinguished from other values", () => {
    for (const text of ["", "1.2.3.4/33", "::/129", "1.2.3.4/", "1.2.3.4/a", "1.2.3.4/-1", "1.2.3.4/08", "a/8", "/8"]) {
      assertEquals(Cidr.parse(text), null, text);
    }
  });
});
