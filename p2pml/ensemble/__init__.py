"""What a peer knows, and how votes become one answer: no IO and no clock."""
