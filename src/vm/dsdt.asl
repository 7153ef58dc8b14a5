/* The constant part of the machine: one PCI Express root bus and the devices with fixed ports. Addresses come from dev/addrmap.h. */
#include "dev/addrmap.h"

DefinitionBlock ("", "DSDT", 2, "TESSRA", "TESSERA ", 1)
{
	/* Soft off: the sleep type the PM1 control register gets. */
	Name (\_S5, Package () { ADDRMAP_S5_SLEEP_TYPE, 0, 0, 0 })

	Scope (\_SB)
	{
		Device (PCI0)
		{
			Name (_HID, EisaId ("PNP0A08"))
			Name (_CID, EisaId ("PNP0A03"))
			Name (_SEG, 0)
			Name (_BBN, 0)
			Name (_UID, 0)
			Name (_CRS, ResourceTemplate ()
			{
				WordBusNumber (ResourceProducer, MinFixed, MaxFixed, PosDecode, 0, 0, 0, 0, 1)
				IO (Decode16, 0xCF8, 0xCF8, 1, 8)
				WordIO (ResourceProducer, MinFixed, MaxFixed, PosDecode, EntireRange, 0, 0x1000, 0xFFFF, 0, 0xF000)
				DWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed, NonCacheable, ReadWrite,
					0, ADDRMAP_PCI_MMIO, 0xDFFFFFFF, 0, ADDRMAP_PCI_MMIO_BYTES)
			})
		}

		/* Says that the PCI configuration window belongs to the board. */
		Device (ECAM)
		{
			Name (_HID, EisaId ("PNP0C02"))
			Name (_CRS, ResourceTemplate ()
			{
				Memory32Fixed (ReadWrite, ADDRMAP_ECAM, ADDRMAP_ECAM_BYTES)
			})
		}

		Device (COM1)
		{
			Name (_HID, EisaId ("PNP0501"))
			Name (_UID, 1)
			Name (_CRS, ResourceTemplate ()
			{
				IO (Decode16, ADDRMAP_PORT_COM1, ADDRMAP_PORT_COM1, 1, 8)
				IRQNoFlags () { ADDRMAP_GSI_COM1 }
			})
		}

		Device (RTC)
		{
			Name (_HID, EisaId ("PNP0B00"))
			Name (_CRS, ResourceTemplate ()
			{
				IO (Decode16, ADDRMAP_PORT_RTC, ADDRMAP_PORT_RTC, 1, 2)
			})
		}

		/* Where a panicking kernel says so. */
		Device (PEVT)
		{
			Name (_HID, "QEMU0001")
			Name (_STA, 0x0F)
			Name (_CRS, ResourceTemplate ()
			{
				IO (Decode16, ADDRMAP_PORT_PVPANIC, ADDRMAP_PORT_PVPANIC, 1, 1)
			})
		}
	}
}
